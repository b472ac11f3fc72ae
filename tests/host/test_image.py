"""Flash images: each part by the rules of whoever reads it on the device, and back again."""

import binascii
import hashlib
import random
import struct
import subprocess
import sys

import pytest

from gatehouse_tools import product
from gatehouse_tools.errors import GatehouseError
from gatehouse_tools.image import flash, littlefs, nvs, partitions
from plugin import interpreter

FLASH = 0x400000
CSV = """\
# Name,   Type, SubType, Offset,   Size
nvs,      data, nvs,     0x9000,   0x4000
otadata,  data, ota,     ,         8K
phy_init, data, phy,     ,         4K
ota_0,    app,  ota_0,   ,         1M,
ota_1,    app,  ota_1,   ,         1M, encrypted

vfs,      data, 0x81,    0x310000, 0xf0000, readonly
"""


def refused(reason, word, function, *arguments):
    with pytest.raises(GatehouseError, match=word) as caught:
        function(*arguments)
    assert caught.value.reason == reason


# The partition table.


def test_table_from_csv_to_flash_and_back():
    table = partitions.parse_csv(CSV, FLASH)
    assert [(part.name, part.offset, part.size) for part in table] == [
        ("nvs", 0x9000, 0x4000),
        ("otadata", 0xD000, 0x2000),
        ("phy_init", 0xF000, 0x1000),
        ("ota_0", 0x10000, 0x100000),
        ("ota_1", 0x110000, 0x100000),
        ("vfs", 0x310000, 0xF0000),
    ]
    assert [part.flags for part in table] == [0, 0, 0, 0, 1, 2]
    binary = partitions.to_binary(table)
    assert len(binary) == 0x1000
    # A row as ESP-IDF's bootloader reads it: magic, type, subtype, offset, size, name, flags.
    row = struct.pack("<HBBII16sI", 0x50AA, 1, 0x02, 0x9000, 0x4000, b"nvs", 0)
    assert binary[:32] == row
    assert binary[6 * 32 : 6 * 32 + 16] == b"\xeb\xeb" + b"\xff" * 14
    assert set(binary[7 * 32 :]) == {0xFF}
    assert partitions.from_binary(binary, FLASH) == table


def test_the_simulated_board_has_the_layout_of_a_chip():
    board = product.load_board("unix")
    found = {part.name: (part.kind(), part.offset, part.size) for part in board.partitions()}
    assert found == {
        "nvs": ("data, nvs", 0x9000, 0x4000),
        "otadata": ("data, ota", 0xD000, 0x2000),
        "phy_init": ("data, phy", 0xF000, 0x1000),
        "ota_0": ("app, ota_0", 0x10000, 0x180000),
        "ota_1": ("app, ota_1", 0x190000, 0x180000),
        "vfs": ("data, fat", 0x310000, 0xF0000),
    }


BAD_ROWS = {
    "needed": "vfs, data, fat",
    "type": "vfs, dato, fat, 0x310000, 0x1000",
    "subtype": "vfs, data, ota_0, 0x310000, 0x1000",
    "offset": "vfs, data, fat, x, 0x1000",
    "size": "vfs, data, fat, 0x310000, big",
    "flag": "vfs, data, fat, 0x310000, 0x1000, secret",
    "name": "a_name_of_sixteen, data, fat, 0x310000, 0x1000",
    "ASCII": "caf\u00e9, data, fat, 0x310000, 0x1000",
    "twice": "nvs, data, fat, 0x310000, 0x1000",
    "multiple of 0x1000": "vfs, data, fat, 0x310100, 0x1000",
    "multiple of 0x10000": "app, app, ota_0, 0x311000, 0x10000",
    "positive": "vfs, data, fat, 0x310000, 0",
    "inside nvs": "vfs, data, fat, 0xc000, 0x1000",
    "inside the partition table": "vfs, data, fat, 0x8000, 0x1000",
    "beyond the flash": "vfs, data, fat, 0x310000, 0xf1000",
}


@pytest.mark.parametrize("word", BAD_ROWS)
def test_rows_that_no_chip_could_use(word):
    good = "nvs, data, nvs, 0x9000, 0x4000\n"
    assert partitions.parse_csv(good + "vfs, data, fat, 0x310000, 0xf0000", FLASH)
    refused("format", word, partitions.parse_csv, good + BAD_ROWS[word], FLASH)


def test_damaged_tables(seed):
    binary = partitions.to_binary(partitions.parse_csv(CSV, FLASH))
    refused("format", "no partition", partitions.parse_csv, "# nothing\n", FLASH)
    refused("format", "not a table", partitions.from_binary, b"\xff" * 4096)
    refused("format", "not a table", partitions.from_binary, binary[:70])
    refused("format", "beyond the flash", partitions.from_binary, binary, 0x200000)
    chance = random.Random(seed)
    for _ in range(100):
        bad = bytearray(binary)
        bad[chance.randrange(7 * 32)] ^= 1 << chance.randrange(8)
        with pytest.raises(GatehouseError):
            partitions.from_binary(bytes(bad))


# LittleFS.

FILES = {
    "/boot.py": b"print(1)\n",
    "/lib/gatehouse/trust.mpy": random.Random(1).randbytes(5000),
    "/lib/inline.txt": b"i" * 128,  # the largest that MicroPython's own settings keep inside the folder
    "/lib/block.txt": b"b" * 129,
    "/state/empty": b"",
    "/slots/a/deep/down/x.mpy": b"x" * 4096,
}
MOUNT = """
import os, sys, vfs
class Ram:
    def __init__(self, data):
        self.data = bytearray(data)
    def readblocks(self, number, buffer, offset=0):
        at = number * 4096 + offset
        buffer[:] = self.data[at : at + len(buffer)]
    def writeblocks(self, number, buffer, offset=0):
        at = number * 4096 + offset
        self.data[at : at + len(buffer)] = buffer
    def ioctl(self, what, argument):
        if what == 4:
            return len(self.data) // 4096
        if what == 5:
            return 4096
        if what == 6:
            self.data[argument * 4096 : (argument + 1) * 4096] = b"\\xff" * 4096
            return 0
with open(sys.argv[1], "rb") as file:
    ram = Ram(file.read())
vfs.mount(vfs.VfsLfs2(ram, progsize=32, readsize=32), "/chip")
"""


def micropython(tmp_path, image, program):
    (tmp_path / "fs.img").write_bytes(image)
    command = [interpreter.find(), "-X", "heapsize=16M", "-c", MOUNT + program, str(tmp_path / "fs.img")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_micropython_mounts_reads_and_writes_it(tmp_path):
    image = littlefs.build(FILES, ["/slots/b"], 0xF0000)
    program = """
import hashlib, binascii
for path in %r:
    with open("/chip" + path, "rb") as file:
        print(binascii.hexlify(hashlib.sha256(file.read()).digest()).decode())
print(*os.listdir("/chip/slots"), len(os.listdir("/chip/slots/b")))
with open("/chip/slots/b/new", "w") as file:
    file.write("new")
os.rename("/chip/slots/b/new", "/chip/slots/b/renamed")
print(open("/chip/slots/b/renamed").read())
vfs.umount("/chip")
with open(sys.argv[1], "wb") as file:
    file.write(ram.data)
"""
    printed = micropython(tmp_path, image, program % (sorted(FILES),))
    assert printed[:6] == [hashlib.sha256(FILES[path]).hexdigest() for path in sorted(FILES)]
    assert printed[6:] == ["a", "b", "0", "new"]
    files, folders = littlefs.read((tmp_path / "fs.img").read_bytes())
    assert files == FILES | {"/slots/b/renamed": b"new"}
    assert "/slots/b" in folders


def test_it_is_what_micropython_itself_would_format(tmp_path):
    image = littlefs.build({}, [], 0xF0000)
    program = """
blank = Ram(b"\\xff" * len(ram.data))
vfs.VfsLfs2.mkfs(blank, progsize=32, readsize=32)
print(blank.data[8:48] == ram.data[8:48])
"""
    assert micropython(tmp_path, image, program) == ["True"]


def test_same_files_same_image():
    backwards = dict(reversed(FILES.items()))
    assert littlefs.build(FILES, ["/b", "/a"], 0xF0000) == littlefs.build(backwards, ["/a", "/b"], 0xF0000)


def test_read_gives_back_files_and_folders():
    files, folders = littlefs.read(littlefs.build(FILES, ["/slots/b", "/slots/a"], 0xF0000))
    assert files == FILES
    assert {"/lib", "/lib/gatehouse", "/slots/a/deep/down", "/slots/b"} <= set(folders)


def test_a_full_file_system():
    assert littlefs.build({"/x": b"x" * 50 * 4096}, [], 64 * 4096)
    refused("full", "do not fit", littlefs.build, {"/x": b"x" * 64 * 4096}, [], 64 * 4096)


def test_what_is_no_file_system():
    refused("format", "not a readable", littlefs.read, b"\xff" * 0x10000)
    refused("format", "not a readable", littlefs.read, littlefs.build(FILES, [], 0xF0000)[8192:])


# NVS.


def test_nvs_holds_blobs_and_numbers():
    values: dict[str, bytes | int] = {
        "identity": b"\x01\x02",
        "tls_cert": random.Random(3).randbytes(900),
        "boots": -7,
        "empty": b"",
        "k" * 15: b"x",
    }
    image = flash.nvs_image(values, 0x4000)
    assert len(image) == 0x4000
    assert nvs.read_nvs(image) == {"gatehouse": values}


def test_nvs_limits():
    assert flash.nvs_image({"big": bytes(3000)}, 0x4000)
    refused("format", "longer than 15", flash.nvs_image, {"k" * 16: b"x"}, 0x4000)
    refused("full", "do not fit", flash.nvs_image, {f"v{n}": bytes(1000) for n in range(20)}, 0x4000)


# The rest, and the whole.


def test_esptool_takes_the_stand_in_for_an_application(tmp_path):
    (tmp_path / "app.bin").write_bytes(flash.stand_in_app("gatehouse-sim"))
    command = [sys.executable, "-m", "esptool", "image-info", str(tmp_path / "app.bin")]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert told.count("(valid)") == 2  # checksum and SHA-256
    assert "Project name: gatehouse-sim" in told and "simulator's stand-in" in told
    bad = bytearray((tmp_path / "app.bin").read_bytes())
    bad[100] ^= 1
    (tmp_path / "app.bin").write_bytes(bad)
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    assert "(valid)" not in told


def test_otadata():
    def entry(sequence, state, crc=None):
        value = binascii.crc32(struct.pack("<I", sequence), 0xFFFFFFFF) if crc is None else crc
        return struct.pack("<I20sII", sequence, b"\xff" * 20, state, value).ljust(4096, b"\xff")

    blank = b"\xff" * 4096
    assert flash.parse_otadata(blank + blank) is None
    found = flash.parse_otadata(entry(3, 2) + entry(4, 1))
    assert found == flash.OtaEntry(4, "pending verify") and found.slot == 1
    assert flash.parse_otadata(entry(3, 2) + entry(4, 1, crc=0)) == flash.OtaEntry(3, "valid")
    # What ESP-IDF's own tool writes when it chooses ota_0 for the first time.
    known = struct.pack("<I20sI", 1, b"\xff" * 20, 0xFFFFFFFF) + bytes.fromhex("9a984347")
    found = flash.parse_otadata(known.ljust(4096, b"\xff") + blank)
    assert found == flash.OtaEntry(1, "undefined") and found.slot == 0


def test_a_whole_image_and_its_parts():
    table = partitions.parse_csv(CSV, FLASH)
    image = flash.compose(table, {"nvs": b"N" * 0x4000, "vfs": b"V" * 100}, FLASH)
    assert len(image) == FLASH and flash.looks_like(image)
    parts = flash.take_apart(image)
    assert [part for part, _ in parts.values()] == table
    assert parts["nvs"][1] == b"N" * 0x4000
    assert parts["vfs"][1] == b"V" * 100 + b"\xff" * (0xF0000 - 100)
    assert set(parts["ota_0"][1]) == {0xFF}
    assert set(image[:0x8000]) == {0xFF}


def test_what_does_not_fit_and_what_is_damaged():
    table = partitions.parse_csv(CSV, FLASH)
    refused("full", "do not fit partition nvs", flash.compose, table, {"nvs": b"x" * 0x4001}, FLASH)
    refused("format", "no partition 'none'", flash.compose, table, {"none": b"x"}, FLASH)
    refused("format", "beyond the flash", flash.compose, table, {}, 0x200000)
    image = flash.compose(table, {}, FLASH)
    refused("size", "partition vfs", flash.take_apart, image[:0x310001])
    bad = bytearray(image)
    bad[0x8010] ^= 1
    refused("digest", "MD5", flash.take_apart, bytes(bad))
    refused("format", "not a table", flash.take_apart, b"")

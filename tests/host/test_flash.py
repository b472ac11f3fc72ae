"""`gatehouse flash`: the real esptool against a ROM loader behind a pseudo-terminal; what is refused loses nothing.

The firmware is made by hand (servers/stock_image.py): no file of MicroPython's can be had here.
"""

import contextlib
import hashlib
import http.server
import json
import re
import stat
import subprocess
import sys
import threading

import pytest
import shop

from gatehouse_tools import firmware_source, flash_plan, flasher, product
from gatehouse_tools.errors import GatehouseError
from gatehouse_tools.image import flash, partitions, stock
from servers import stock_image
from servers.rom_loader import Rom, next_port

S3 = stock_image.firmware()


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    folder = tmp_path_factory.mktemp("product")
    item = shop.real(folder / "shop")
    wifi = folder / "wifi.toml"
    wifi.write_text('ssid = "hall 3"\npassword = "correct horse"\n')
    wifi.chmod(0o600)
    for name in ("gh-1", "gh-2"):
        done = shop.run("provision", "--product", item.root, "--id", name, "--wifi", wifi)
        assert done.code == 0, done.err
    return item


@pytest.fixture(autouse=True)
def fresh(item):
    yield
    for path in item.devices.glob("*/flashed.json"):
        path.unlink()


@pytest.fixture(scope="module")
def firmware(tmp_path_factory):
    path = tmp_path_factory.mktemp("firmware") / "ESP32_GENERIC_S3.bin"
    path.write_bytes(S3)
    return path


def call(item, *arguments, device="gh-1"):
    done = shop.run("flash", "--product", item.root, "--device", device, *arguments)
    # esptool's own, about a pseudo-terminal that has no reset line.
    done.err = "".join(line for line in done.err.splitlines(True) if "Chip was NOT reset" not in line)
    done.err = "".join(line for line in done.err.splitlines(True) if not line.startswith("erasing "))
    return done


def write(item, firmware, rom, *arguments, **more):
    return call(item, "--firmware", firmware, "--port", rom.port, *arguments, **more)


@pytest.fixture(scope="module")
def merged(item, firmware, tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "out.bin"
    done = call(item, "--firmware", firmware, "--image", path)
    assert (done.code, done.err) == (0, "")
    return path


# What is written.


def test_the_board_gets_the_image_byte_for_byte(item, firmware, merged):
    before = b"\xa5" * (8 << 20)  # of a former life
    with Rom(flash=before) as rom:
        done = write(item, firmware, rom, "--json")
        assert done.code == 0, done.err
        assert bytes(rom.flash) == merged.read_bytes()
        assert rom.erased == 1
        written = [(one["offset"], one["size"]) for one in done.json["written"]]
        assert rom.writes == written
        assert done.json["mac"] == "00:11:22:33:44:55" and done.json["chip"] == "esp32s3"
    for one in done.json["written"]:
        data = merged.read_bytes()[one["offset"] :][: one["size"]]
        assert hashlib.sha256(data).hexdigest() == one["sha256"]


def test_progress_is_told_in_bytes(item, firmware, terminal):
    with Rom() as rom:
        done = write(item, firmware, rom)
        assert done.code == 0, done.err
        written = f"{sum(size for _, size in rom.writes) / 1024:.1f}"
    told = terminal()
    assert re.search(rf"writing [^\r\n]* {written}/{written} KiB 0:00:00", told)
    assert re.search(r"reading back [^\r\n]* 8\.0/8\.0 MiB 0:00:00", told)


def test_a_dry_run_says_exactly_what_is_written_and_touches_nothing(item, firmware):
    with Rom() as rom:
        told = write(item, firmware, rom, "--dry-run", "--json")
        assert told.code == 0 and rom.writes == [] and rom.erased == 0
        done = write(item, firmware, rom, "--json")
        assert told.json["written"] == done.json["written"] != []
        assert rom.writes == [(one["offset"], one["size"]) for one in told.json["written"]]
    words = call(item, "--firmware", firmware, "--dry-run").out
    assert "dry run: nothing was written" in words
    for one in told.json["written"]:
        line = next(line for line in words.splitlines() if one["sha256"] in line)
        assert f"0x{one['offset']:06x}" in line and one["name"] in line and str(one["size"]) in line


def test_the_merged_image_is_secret_and_overwrites_nothing(item, firmware, merged):
    assert stat.S_IMODE(merged.stat().st_mode) == 0o600
    before = merged.read_bytes()
    call(item, "--firmware", firmware, "--image", merged).refused(1, "exists already")
    assert merged.read_bytes() == before


def test_what_of_the_image_is_whose(item, merged):
    image = merged.read_bytes()
    mine = (item.devices / "gh-1" / "flash.bin").read_bytes()
    parts = flash.take_apart(image)
    given = flash.take_apart(mine)
    for name in ("nvs", "vfs", "otadata", "phy_init", "ota_1"):
        assert parts[name] == given[name]
    taken = stock.split(S3, "esp32s3", "it")
    assert parts["ota_0"][1].startswith(taken.app.data)
    assert image[0x8000:0x9000] == mine[0x8000:0x9000] != S3[0x8000:0x9000]
    # The bootloader's header says the board's flash, where the stock file says 4 MB; it is still a valid image.
    assert stock.read_image(image, "the bootloader").chip == "esp32s3"
    assert (S3[3] >> 4, image[3] >> 4) == (2, 3)


def test_esptool_takes_bootloader_and_application(merged, tmp_path):
    for at in (0, 0x10000):
        (tmp_path / "one.bin").write_bytes(merged.read_bytes()[at : at + 0x8000 if at == 0 else 0x280000])
        command = [sys.executable, "-m", "esptool", "image-info", str(tmp_path / "one.bin")]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        assert told.count("(valid)") == 2 and "ESP32-S3" in told.upper()


@pytest.mark.parametrize("chip", stock_image.CHIPS)
def test_firmware_of_each_chip_is_taken_apart(chip):
    taken = stock.split(stock_image.firmware(chip), chip, "it")
    assert taken.bootloader.data == stock_image.image(chip, size=20_000)
    assert taken.app.data == stock_image.image(chip, "MicroPython", 200_000)
    assert (taken.app.project, taken.app.version, taken.app.idf) == ("MicroPython", "v1.28.0", "v5.5.1")


# What is refused.


def firmware_of_another_chip(data):
    return stock_image.firmware("esp32c3")


def truncated(data):
    return data[:-5000]


def truncated_in_the_table(data):
    return data[:0x8040]


def only_an_application(data):
    return data[0x10000:]


def one_bit(data):
    return data[:0x11000] + bytes([data[0x11000] ^ 4]) + data[0x11001:]


def bit_in_the_bootloader(data):
    return data[:0x1000] + bytes([data[0x1000] ^ 4]) + data[0x1001:]


def no_firmware_at_all(data):
    return b"<html>not found</html>" * 100


def empty(data):
    return b""


def too_large(data):
    return stock_image.firmware(size=0x270000)


def of_an_old_micropython(data):
    return stock_image.firmware(version="v1.23.0")


def of_something_else(data):
    return stock_image.firmware(project="Blink")


BAD_FIRMWARE = {
    firmware_of_another_chip: ("is for the ESP32-C3; the board has an ESP32-S3", "[chip]"),
    truncated: ("ends inside its segments", "[size]"),
    truncated_in_the_table: ("cut short", "[size]"),
    only_an_application: ("", "["),
    one_bit: ("is damaged", "[digest]"),
    bit_in_the_bootloader: ("the bootloader in", "is damaged", "[digest]"),
    no_firmware_at_all: ("is not an ESP32 application image", "[format]"),
    empty: ("is not an ESP32 application image", "[format]"),
    of_an_old_micropython: ("has MicroPython v1.23.0; the core needs v1.24 or later", "[version]"),
    of_something_else: ("is no MicroPython", "[format]"),
    too_large: ("ota_0 of ESP32_GENERIC_S3 has 2555904", "take a smaller build", "[full]"),
}


@pytest.mark.parametrize("spoil", BAD_FIRMWARE, ids=lambda one: one.__name__)
def test_bad_firmware_writes_nothing(item, tmp_path, spoil):
    path = tmp_path / "bad.bin"
    path.write_bytes(spoil(S3))
    with Rom(flash=b"before") as rom:
        write(item, path, rom).refused(1, *BAD_FIRMWARE[spoil])
        assert rom.writes == [] and rom.erased == 0
    call(item, "--firmware", path, "--image", tmp_path / "out.bin").refused(1, *BAD_FIRMWARE[spoil])
    assert not (tmp_path / "out.bin").exists()


@pytest.mark.parametrize("version", ["v1.24.0", "v1.24.0-preview.12.gabc", "v1.100.0", "v2.0.0"])
def test_every_micropython_that_the_core_runs_on_is_taken(version):
    taken = stock.split(stock_image.firmware(version=version), "esp32s3", "it")
    assert taken.app.micropython == version and f"MicroPython {version}" in taken.app.words()


def test_a_given_sha256_must_be_the_firmwares(item, firmware, tmp_path):
    good = hashlib.sha256(S3).hexdigest()
    wrong = hashlib.sha256(b"x").hexdigest()
    call(item, "--firmware", firmware, "--sha256", wrong, "--dry-run").refused(1, "not the given one", "[digest]")
    assert call(item, "--firmware", firmware, "--sha256", good.upper(), "--dry-run").code == 0


def test_a_port_that_is_none(item, firmware):
    call(item, "--firmware", firmware, "--port", "foo://x").refused(1, "foo://x: stopped while the board is looked for")


def untouched(rom):
    return rom.writes == [] and rom.erased == 0 and rom.flash.startswith(b"before")


def test_the_wrong_chip(item, firmware):
    with Rom("esp32c3", 4 << 20, b"before") as rom:
        write(item, firmware, rom).refused(1, "has an ESP32-C3; ESP32_GENERIC_S3 has an ESP32-S3", "[chip]")
        assert untouched(rom)


def test_a_flash_that_is_too_small(item, firmware):
    with Rom(size=4 << 20, flash=b"before") as rom:
        write(item, firmware, rom).refused(1, "has 4MB of flash; ESP32_GENERIC_S3 has 8MB", "[size]")
        assert untouched(rom)
    with Rom(size=16 << 20) as rom:
        assert write(item, firmware, rom).code == 0


@pytest.mark.parametrize("lock", ["encrypted", "secure_boot", "secure_download"])
def test_a_locked_board(item, firmware, lock):
    with Rom(flash=b"before") as rom:
        rom.burn(**{lock: True})
        done = write(item, firmware, rom, "--replace")
        done.refused(1, "eFuses", "production device", "[locked]")
        assert untouched(rom)


def test_a_board_that_is_a_device_already(item, firmware, merged):
    with Rom(flash=merged.read_bytes()) as rom:
        write(item, firmware, rom, device="gh-2").refused(1, "is the device gh-1 already", "--replace", "[provisioned]")
        assert rom.writes == [] and bytes(rom.flash) == merged.read_bytes()
        assert not (item.devices / "gh-2" / "flashed.json").exists()
        assert write(item, firmware, rom, "--replace", device="gh-2").code == 0
        again = write(item, firmware, rom, device="gh-2")
        again.refused(1, "is the device gh-2 already", "[provisioned]")
    # A table that is damaged hides no device.
    with Rom(flash=merged.read_bytes()) as rom:
        rom.flash[0x8010] ^= 1
        write(item, firmware, rom, device="gh-1").refused(1, "is the device gh-1 already")


def test_a_board_that_was_refused_runs_again_what_it_ran(item, firmware, merged, monkeypatch):
    resets = []
    monkeypatch.setattr(flasher.cmds, "reset_chip", lambda esp, mode: resets.append(mode))
    with Rom(flash=merged.read_bytes()) as rom:
        write(item, firmware, rom, device="gh-2").refused(1, "[provisioned]")
        assert resets == ["hard-reset"]
    with Rom("esp32c3", 4 << 20) as rom:
        write(item, firmware, rom).refused(1, "[chip]")
        assert resets == ["hard-reset"] * 2
    # Half a device is not started.
    with Rom() as rom:
        rom.rotten = 0x4F0010
        write(item, firmware, rom).refused(1, "[port]")
        assert resets == ["hard-reset"] * 2


def test_one_identity_is_for_one_board(item, firmware):
    with Rom() as rom:
        assert write(item, firmware, rom).code == 0
    with Rom(mac=0x66778899AABB) as other:
        done = write(item, firmware, other)
        done.refused(1, "gh-1 is on the board 00:11:22:33:44:55 already", "[state]")
        assert other.erased == 0
        assert write(item, firmware, other, "--replace").code == 0
        assert json.loads((item.devices / "gh-1" / "flashed.json").read_text())["mac"] == "66:77:88:99:aa:bb"


def test_unplugged_in_the_middle_and_plugged_in_again(item, firmware, merged):
    image = item.devices / "gh-1" / "flash.bin"
    before = image.read_bytes()
    with Rom() as rom:
        rom.unplug_after = 300_000
        done = write(item, firmware, rom)
        done.refused(1, rom.port, "stopped while the board is written", "nothing here is lost", "[port]")
        half = bytes(rom.flash)
        assert next_port() != rom.port
    assert half != merged.read_bytes() and image.read_bytes() == before
    with Rom(flash=half) as rom:
        assert write(item, firmware, rom, "--replace").code == 0
        assert bytes(rom.flash) == merged.read_bytes()


def test_a_bit_that_does_not_stay_is_found_by_reading_back(item, firmware):
    with Rom() as rom:
        rom.rotten = 0x4F0010
        done = write(item, firmware, rom)
        done.refused(1, "stopped while the board is written", "MD5", "[port]")


def test_what_was_not_erased_is_found_by_reading_back(item, firmware, monkeypatch):
    with Rom(flash=b"\xa5" * (8 << 20)) as rom:
        rom.blank = False
        write(item, firmware, rom).refused(1, "does not hold what was written", "[digest]")


def test_no_board_at_the_port(item, firmware):
    call(item, "--firmware", firmware, "--port", "/dev/none").refused(1, "/dev/none", "check cable and port", "[port]")


BAD = {
    "neither port nor image": ([], "--image FILE"),
    "both": (["--port", "/dev/none", "--image", "x.bin"], "--image FILE"),
    "a port without firmware": (["--port", "/dev/none", "--no-firmware"], "--no-firmware goes with --image"),
    "a sha256 that is none": (["--sha256", "abc", "--image", "x.bin"], "64 hexadecimal digits"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_calls(item, name):
    arguments, word = BAD[name]
    call(item, *arguments).refused(2, word)


def test_other_devices_and_boards(item, firmware, tmp_path):
    call(item, "--firmware", firmware, "--dry-run", device="gh-none").refused(1, "no device 'gh-none'")
    simulated = shop.make(tmp_path / "sim")
    shop.release(simulated, "1.0.0")
    assert shop.run("provision", "--product", simulated.root, "--id", "gh-sim").code == 0
    call(simulated, "--dry-run", device="gh-sim").refused(2, "gatehouse sim gh-sim runs it")


def test_a_board_whose_table_has_changed_since(item):
    board = item.board()
    mine = (item.devices / "gh-1" / "flash.bin").read_bytes()
    assert flash_plan.make(board, mine, None).image == mine
    table = partitions.parse_csv("nvs,data,nvs,0x9000,0x4000\nvfs,data,fat,0x310000,0xf0000\n", board.flash_size)
    other = flash.compose(table, {}, board.flash_size)
    with pytest.raises(GatehouseError, match="another partition table"):
        flash_plan.make(board, other, None)
    with pytest.raises(GatehouseError, match="not the board's"):
        flash_plan.make(board, mine[:-4096], None)


# Where the firmware comes from.


@pytest.fixture
def server(item):
    """micropython.org on this machine: what it serves can be changed. Yields its files by path."""
    files: dict[str, bytes] = {}
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            data = files.get(self.path)
            if data is None:
                self.send_error(404)
            elif data.startswith(b"->"):
                self.send_response(302)
                self.send_header("Location", data[2:].decode())
                self.end_headers()
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(S3)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(data)

        def log_message(self, *_):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    settings = item.root / product.FILE
    before = settings.read_text()
    settings.write_text(before + f'\n[micropython]\nsource = "http://127.0.0.1:{running.server_port}/fw/"\n')
    files["asked"] = asked  # type: ignore[assignment]
    yield files
    running.shutdown()
    running.server_close()
    thread.join()
    settings.write_text(before)
    for path in (item.root / "micropython").glob("*"):
        path.unlink()


NAME = "ESP32_GENERIC_S3-20260406-v1.28.0.bin"


def test_it_is_fetched_once_shown_and_pinned(item, server, tmp_path):
    server[f"/fw/{NAME}"] = S3
    digest = hashlib.sha256(S3).hexdigest()
    done = call(item, "--image", tmp_path / "out.bin")
    assert done.code == 0 and digest in done.err and "pinned" in done.err
    assert json.loads((item.root / "micropython" / "pins.json").read_text()) == {NAME: digest}
    done = call(item, "--dry-run", device="gh-2")
    assert done.code == 0 and digest in done.err and len(server["asked"]) == 1


def test_fetching_is_told_in_bytes(item, server, terminal):
    server[f"/fw/{NAME}"] = S3
    assert call(item, "--dry-run").code == 0
    kib = f"{len(S3) / 1024:,.1f}"
    assert re.search(rf"fetching [^\r\n]* {kib}/{kib} KiB 0:00:00", terminal())


def test_another_hash_than_the_pinned_one_is_refused(item, server, tmp_path):
    server[f"/fw/{NAME}"] = S3[:-1] + bytes([S3[-1] ^ 1])
    folder = item.root / "micropython"
    folder.mkdir(exist_ok=True)
    (folder / "pins.json").write_text(json.dumps({NAME: hashlib.sha256(S3).hexdigest()}))
    done = call(item, "--image", tmp_path / "out.bin")
    assert done.code == 1 and "pinned is sha256:" in done.err and "[digest]" in done.err
    assert not (tmp_path / "out.bin").exists() and not (folder / NAME).exists()
    server[f"/fw/{NAME}"] = S3
    assert call(item, "--image", tmp_path / "out.bin").code == 0


def test_what_is_no_firmware_is_not_pinned(item, server):
    server[f"/fw/{NAME}"] = b"<html>".ljust(len(S3))  # a portal's page
    done = call(item, "--dry-run")
    assert done.code == 1 and "[format]" in done.err and "pinned" not in done.err
    assert not (item.root / "micropython" / NAME).exists() and not (item.root / "micropython" / "pins.json").exists()
    server[f"/fw/{NAME}"] = S3
    assert call(item, "--dry-run").code == 0


def test_a_hash_given_at_the_first_fetch(item, server):
    server[f"/fw/{NAME}"] = S3
    done = call(item, "--dry-run", "--sha256", hashlib.sha256(b"x").hexdigest())
    assert done.code == 1 and "[digest]" in done.err
    assert not (item.root / "micropython" / NAME).exists() and not (item.root / "micropython" / "pins.json").exists()
    assert call(item, "--dry-run", "--sha256", hashlib.sha256(S3).hexdigest()).code == 0
    done = call(item, "--dry-run", "--sha256", hashlib.sha256(b"x").hexdigest())
    assert done.code == 1 and "is pinned to" in done.err


def test_a_file_that_was_changed_after_it_was_fetched(item, server):
    server[f"/fw/{NAME}"] = S3
    assert call(item, "--dry-run").code == 0
    path = item.root / "micropython" / NAME
    path.write_bytes(stock_image.firmware(size=100_000))
    call(item, "--dry-run").refused(1, "is not what was fetched", "[digest]")
    path.unlink()
    assert call(item, "--dry-run").code == 0


def test_an_answer_that_ends_early(item, server):
    server[f"/fw/{NAME}"] = S3[:1000]
    done = call(item, "--dry-run")
    assert done.code == 1 and ("ended after" in done.err or "cannot be fetched" in done.err)
    assert not (item.root / "micropython" / NAME).exists()


def test_not_there_and_no_network(item, server):
    done = call(item, "--dry-run")
    assert done.code == 1 and "cannot be fetched (Not Found)" in done.err and "--firmware FILE" in done.err
    settings = item.root / product.FILE
    nobody = "http://127.0.0.1:1/"
    settings.write_text(re.sub("http://127.0.0.1:[0-9]+/fw/", nobody, settings.read_text()))
    done = call(item, "--dry-run")
    assert done.code == 1 and f"{nobody}{NAME} cannot be fetched" in done.err and "--firmware FILE" in done.err


@pytest.mark.parametrize("url", ["http://firmware.example.org/", "ftp://127.0.0.1/", "file:///etc/"])
def test_firmware_comes_over_https_only(item, server, url):
    server[f"/fw/{NAME}"] = f"->{url}{NAME}".encode()
    done = call(item, "--dry-run")
    assert done.code == 1 and ("over https only" in done.err or "is not allowed" in done.err)  # urllib's, of a file
    settings = item.root / product.FILE
    text = settings.read_text()
    settings.write_text(text[: text.index("[micropython]")] + f'[micropython]\nsource = "{url}"\n')
    done = call(item, "--dry-run")
    assert done.code == 1 and "over https only" in done.err


def test_the_address_is_micropythons(item):
    assert firmware_source.SERVER == "https://micropython.org/resources/firmware/"
    assert firmware_source.file_name(item.board()) == NAME


def test_without_firmware_the_image_is_the_devices(item, tmp_path):
    done = call(item, "--image", tmp_path / "out.bin", "--no-firmware")
    assert (done.code, done.err) == (0, "")
    assert (tmp_path / "out.bin").read_bytes() == (item.devices / "gh-1" / "flash.bin").read_bytes()

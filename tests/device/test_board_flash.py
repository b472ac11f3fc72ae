"""The simulated board's flash under LittleFS, in this process: an exception stands in for the end of the run."""

import os
import sys

import vfs

from harness import seed

sys.path.append(__file__.rsplit("/tests/", 1)[0] + "/boards/unix")

from shims import flash, host

SECTOR = 4096
BLOCKS = 24
CUT, OPERATIONS, FAULT = 0, 1, 7  # places of the shared numbers


class Ended(BaseException):
    """The run has ended; `event` says why."""

    def __init__(self, event):
        super().__init__(event)
        self.event = event


class Bench:
    """Files in place of the supervisor's."""

    def __init__(self):
        self.numbers = open("numbers", "w+b")
        self.numbers.write(bytes(128))
        self.image = open("image", "w+b")
        for _ in range(BLOCKS + 2):
            self.image.write(b"\xff" * SECTOR)
        host.end = self._end
        host.numbers = self.numbers
        self.disk = flash.Disk(self.image, SECTOR, BLOCKS * SECTOR)

    def program(self, at, data):
        """At `at` of the disk."""
        self.disk.writeblocks(at // SECTOR, data, at % SECTOR)

    def erase(self, at):
        assert self.disk.ioctl(6, at // SECTOR) == 0

    def _end(self, event):
        raise Ended(event)

    def content(self, at=-SECTOR, size=(BLOCKS + 2) * SECTOR):
        """From `at` of the disk; by default the sectors before and behind it as well."""
        self.image.seek(SECTOR + at)
        return self.image.read(size)

    def restore(self, content):
        self.image.seek(0)
        self.image.write(content)

    def start(self, cut=0):
        """Count from 0 again, with the power going at operation `cut`."""
        host.put(CUT, cut)
        host.put(OPERATIONS, 0)


def ends(event, action, *arguments):
    try:
        action(*arguments)
    except Ended as end:
        assert end.event == event, end.event
        return
    raise AssertionError("went on")


def test_programs_clear_bits_and_erases_set_them():
    bench = Bench()
    bench.program(10, b"\xf0\x0f")
    bench.program(10, b"\xf0\x00")
    assert bench.content(9, 4) == b"\xff\xf0\x00\xff"
    bench.program(SECTOR, bytes(300))
    bench.erase(0)
    assert bench.content(0, SECTOR) == b"\xff" * SECTOR
    assert bench.content(SECTOR, 301) == bytes(300) + b"\xff"
    assert host.get(OPERATIONS) == 4


def test_setting_a_bit_ends_the_run():
    bench = Bench()
    bench.erase(0)
    for at, data in ((0, bytes(128)), (128, b"\x0f" * 128), (256, b"\x55" * 40), (1000, b"\x01")):
        bench.program(at, data)
        for wrong in (b"\xff" * len(data), data[:-1] + bytes((data[-1] | 0x80,))):
            before = bench.content()
            ends(b"fault", bench.program, at, wrong)
            assert host.get(FAULT) == SECTOR + at
            assert bench.content() == before
        bench.program(at, data)  # no bit is set by the same again


def test_a_cut_program_is_done_half():
    bench = Bench()
    for size in (2, 32, 128, 500):
        bench.erase(0)
        bench.start(1)
        ends(b"cut", bench.program, 0, bytes(size))
        assert bench.content(0, size + 1) == bytes(size // 2) + b"\xff" * (size - size // 2 + 1)


def test_a_cut_erase_is_left_to_the_supervisor():
    bench = Bench()
    bench.program(SECTOR, bytes(SECTOR))
    bench.start(1)
    before = bench.content()
    ends(b"cut %d" % (2 * SECTOR), bench.erase, SECTOR)
    assert bench.content() == before


def test_a_cut_can_be_set_at_any_time():
    bench = Bench()
    bench.start()
    bench.program(0, b"\x00")
    bench.program(1, b"\x00")
    host.put(CUT, 4)
    bench.program(2, b"\x00")
    ends(b"cut", bench.program, 4, bytes(2))
    assert host.get(OPERATIONS) == 4


def mount(bench):
    """As at a start: a new disk over the same image."""
    bench.disk = flash.Disk(bench.image, SECTOR, BLOCKS * SECTOR)
    try:
        vfs.umount("/disk")
    except OSError:
        pass
    vfs.mount(vfs.VfsLfs2(bench.disk, progsize=32, readsize=32), "/disk")


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return None


def test_a_rename_within_a_directory_is_old_or_new_whatever_is_cut():
    """LittleFS over this flash: what the core builds on. Halves of cut erases are made up here."""
    random = seed()
    bench = Bench()
    vfs.VfsLfs2.mkfs(bench.disk, progsize=32, readsize=32)
    mount(bench)
    with open("/disk/record", "w") as file:
        file.write("old" * 50)
    before = bench.content()
    cut = 0
    while True:
        cut += 1
        bench.restore(before)
        mount(bench)
        bench.start(cut)
        try:
            with open("/disk/record.new", "w") as file:
                file.write("new" * 60)
            os.rename("/disk/record.new", "/disk/record")
            break
        except Ended as end:
            event = end.event
        if b" " in event:
            at = int(event.split()[1]) + (random >> cut & 1) * SECTOR // 2
            bench.image.seek(at)
            bench.image.write(b"\xff" * (SECTOR // 2))
        bench.start()
        mount(bench)
        assert read("/disk/record") in ("old" * 50, "new" * 60), cut
        with open("/disk/more", "w") as file:
            file.write("more")
        assert read("/disk/more") == "more"
    assert read("/disk/record") == "new" * 60
    assert cut > 4
    first, last = bench.content(-SECTOR, SECTOR), bench.content(BLOCKS * SECTOR, SECTOR)
    assert first == last == b"\xff" * SECTOR, "wrote outside its partition"

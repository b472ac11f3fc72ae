"""A chip in download mode, as far as esptool can tell: ROM loader and stub behind a pseudo-terminal, flash in memory.

It speaks the serial protocol of Espressif's ROM and of its stub; nothing of a chip runs. The stub that esptool uploads
is taken and thrown away. What the protocol asks for beyond flash (registers, eFuses) is a table of words.
"""

import hashlib
import os
import pty
import select
import struct
import threading
import tty
import zlib
from typing import Self

_END, _ESCAPE = 0xC0, 0xDB
SYNC, READ_REG, WRITE_REG, SECURITY = 0x08, 0x0A, 0x09, 0x14
MEM_END, MD5, ERASE, READ_FLASH = 0x06, 0x13, 0xD0, 0xD2
BEGIN, DATA, DEFL_BEGIN, DEFL_DATA, DEFL_END = 0x02, 0x03, 0x10, 0x11, 0x12
_PLAIN = {0x04, 0x05, 0x07, 0x0B, 0x0D, 0x0F, DEFL_END}  # commands that are only acknowledged
# What a chip answers: its number, where its SPI registers begin, and those of eFuse BLOCK0 that say what is burned.
CHIPS = {"esp32s3": (9, 0x60002000, 0x60007034, 0x60007038), "esp32c3": (5, 0x60002000, 0x60008834, 0x60008838)}
ENCRYPTED, SECURE_BOOT, SECURE_DOWNLOAD = 1 << 18, 1 << 20, 1 << 2


def next_port() -> str:
    """The name of the pseudo-terminal that whoever makes one next gets: esptool may look for it, if it was lost."""
    ends = pty.openpty()
    name = os.ttyname(ends[1])
    for end in ends:
        os.close(end)
    return name


class Rom(threading.Thread):
    """A chip at `port`. flash: its content, which stays; unplug_after: bytes written until the port goes away."""

    def __init__(self, chip: str = "esp32s3", size: int = 8 << 20, flash: bytes = b"", mac: int = 0x1122334455) -> None:
        super().__init__(daemon=True)
        self.number, self._spi, self._crypt, self._secure = CHIPS[chip]
        self.size = size
        self.flash = bytearray(flash.ljust(size, b"\xff"))
        self.flags = 0
        self.registers = {self._crypt + 0x10: mac & 0xFFFFFFFF, self._crypt + 0x14: mac >> 32}
        self.unplug_after: int | None = None
        self.writes: list[tuple[int, int]] = []  # (address, bytes), in order
        self.blank = True  # whether erasing erases
        self.erased = 0  # how often the whole flash was
        self.rotten: int | None = None  # an address where a bit does not stay
        self._stub = False
        self._written = 0
        self._at = 0
        self._left = 0
        self._inflate = zlib.decompressobj()
        self._buffer = bytearray()
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        self._slave = slave
        self._ended, self._wake = os.pipe()
        self._gone = False

    def burn(self, encrypted: bool = False, secure_boot: bool = False, secure_download: bool = False) -> None:
        """Burn eFuses."""
        self.registers[self._crypt] = ENCRYPTED if encrypted else 0
        self.registers[self._secure] = SECURE_BOOT if secure_boot else 0
        self.flags |= SECURE_DOWNLOAD if secure_download else 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._wake, b"x")
        self.join()
        self._unplug()
        os.close(self._slave)
        os.close(self._ended)
        os.close(self._wake)

    def _unplug(self) -> None:
        """Hang up. Its number stays taken: esptool opens a lost port by its name, again and again."""
        if not self._gone:
            self._gone = True
            os.close(self._master)

    def run(self) -> None:
        while not self._gone:
            packet = self._packet()
            if packet is None:
                return
            if len(packet) >= 8 and packet[0] == 0:
                _, code, size, _ = struct.unpack_from("<BBHI", packet)
                self._answer(code, packet[8 : 8 + size])

    def _packet(self) -> bytes | None:
        """The next one; None at the end."""
        while True:
            first = self._buffer.find(_END)
            last = self._buffer.find(_END, first + 1) if first >= 0 else -1
            if last > first + 1:
                raw = bytes(self._buffer[first + 1 : last])
                del self._buffer[: last + 1]
                return raw.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")
            if last >= 0:
                del self._buffer[:last]  # two ends in a row
                continue
            ready, _, _ = select.select([self._master, self._ended], [], [])
            if self._ended in ready:
                return None
            try:
                self._buffer += os.read(self._master, 65536)
            except OSError:
                if self._gone or self._hung_up():
                    return None

    def _hung_up(self) -> bool:
        """Nobody has the port open: whether that is the end."""
        return True

    def _send(self, data: bytes) -> None:
        framed = data.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
        framed = bytes([_END]) + framed + bytes([_END])
        while framed and not self._gone:
            framed = framed[os.write(self._master, framed) :]

    def _reply(self, code: int, value: int = 0, body: bytes = b"", status: bytes = b"\0\0") -> None:
        body += status if self._stub else status + b"\0\0"
        self._send(struct.pack("<BBHI", 1, code, len(body), value) + body)

    def _answer(self, code: int, body: bytes) -> None:
        if code == SYNC:
            self._stub = False  # a reset brings the ROM back
            for _ in range(8):
                self._reply(code, 0x20120707)
        elif code == SECURITY:
            self._reply(code, 0, struct.pack("<IB7sII", self.flags, 0, bytes(7), self.number, 0))
        elif code == READ_REG:
            self._reply(code, self.registers.get(struct.unpack_from("<I", body)[0], 0))
        elif code == WRITE_REG:
            for at in range(0, len(body) - 15, 16):
                self._set(*struct.unpack_from("<II", body, at))
            self._reply(code)
        elif code == MEM_END:
            self._reply(code)
            self._stub = True
            self._send(b"OHAI")
        elif code == ERASE:
            if self.blank:
                self.flash[:] = b"\xff" * self.size
            self.erased += 1
            self._reply(code)
        elif code in (BEGIN, DEFL_BEGIN):
            self._left, _, _, self._at = struct.unpack_from("<IIII", body)
            self._inflate = zlib.decompressobj()
            if self._left:
                self.writes.append((self._at, self._left))
            self._reply(code)
        elif code in (DATA, DEFL_DATA):
            data = body[16 : 16 + struct.unpack_from("<I", body)[0]]
            self._write(data if code == DATA else self._inflate.decompress(data))
            if not self._gone:
                self._reply(code)
        elif code == MD5:
            at, size = struct.unpack_from("<II", body)
            self._reply(code, 0, hashlib.md5(self.flash[at : at + size], usedforsecurity=False).digest())
        elif code == READ_FLASH:
            self._read(code, *struct.unpack_from("<III", body))
        elif code in _PLAIN:
            self._reply(code)
        else:
            self._reply(code, 0, b"", b"\x01\x05")

    def _set(self, address: int, value: int) -> None:
        self.registers[address] = value
        if address == self._spi and value & 1 << 18:  # a command to the flash
            command = self.registers.get(self._spi + 0x20, 0) & 0xFF
            if command == 0x9F:  # which one are you: maker, kind, power of two of the size
                self.registers[self._spi + 0x58] = 0xEF | 0x40 << 8 | (self.size.bit_length() - 1) << 16
            self.registers[address] = 0

    def _write(self, data: bytes) -> None:
        data = data[: self._left]
        self._written += len(data)
        if self.unplug_after is not None and self._written > self.unplug_after:
            self._unplug()
            return
        for number in range(0, len(data), 4096):
            piece = data[number : number + 4096]
            self.flash[self._at : self._at + len(piece)] = piece
            if self.rotten is not None and self._at <= self.rotten < self._at + len(piece):
                self.flash[self.rotten] ^= 1
            self._at += len(piece)
        self._left -= len(data)

    def _read(self, code: int, at: int, size: int, block: int) -> None:
        self._reply(code)
        data = bytes(self.flash[at : at + size])
        for start in range(0, size, block):
            self._send(data[start : start + block])
            if self._packet() is None:
                return
        self._send(hashlib.md5(data, usedforsecurity=False).digest())

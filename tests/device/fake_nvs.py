"""An NVS partition for access/scrub.py: ESP-IDF's pages in RAM, as esp32.Partition shows them."""

import sys

PAGE = 4096


class Partition:
    TYPE_DATA = 1
    data = bytearray()

    @classmethod
    def find(cls, type=0, subtype=255, label=None):
        assert (type, label) == (1, "nvs")
        return [cls()]

    def ioctl(self, command, argument):
        assert command == 4
        return len(self.data) // PAGE

    def readblocks(self, page, buffer, offset=0):
        at = page * PAGE + offset
        buffer[:] = self.data[at : at + len(buffer)]

    def writeblocks(self, page, buffer, offset=None):
        assert offset is not None, "without an offset the chip erases first"
        at = page * PAGE + offset
        for index in range(len(buffer)):
            assert buffer[index] & ~self.data[at + index] == 0, "a bit was programmed back to 1"
            self.data[at + index] &= buffer[index]


class Module:
    pass


def page_with(secret):
    """A page whose first entry was erased and holds `secret` still, and whose second is written."""
    data = bytearray(b"\xff" * PAGE)
    data[0:4] = b"\xfe\xff\xff\xff"
    data[32] = 0b11111000
    data[64 : 64 + len(secret)] = secret
    data[96:100] = b"kept"
    return bytes(data)


def install(data=b"\xff" * PAGE):
    """Make `esp32.Partition` show this data. Returns the class, whose `data` can be read afterwards."""
    module = Module()
    Partition.data = bytearray(data)
    module.Partition = Partition
    sys.modules["esp32"] = module
    return Partition

"""A pack in a local file, read like one on a server: for tests, and for what comes over a cable."""

from gatehouse import Refused


class FileSource:
    """The same methods as HttpSource. Refused: "size" where it ends early, "network" where it cannot be read."""

    def __init__(self, path):
        self._path = path
        self._file = None
        self._left = 0

    async def open(self, start, end=None):
        """Read bytes [start, end) from now on, or from start to the end of the file."""
        await self.close()
        try:
            self._file = open(self._path, "rb")
            size = self._file.seek(0, 2)
            self._file.seek(start)
        except OSError as error:
            raise Refused("network", "%s: %s" % (self._path, error))
        if size < (end or start):
            raise Refused("size", "%s has %d bytes" % (self._path, size))
        self._left = (end or size) - start

    async def readinto(self, view):
        """Read into a memoryview; how many bytes, 0 at the end of the range."""
        count = self._file.readinto(view[: self._left]) if self._left else 0
        if self._left and len(view) and not count:
            raise Refused("network", self._path + " ended early")
        self._left -= count
        return count

    async def skip(self, count):
        """Leave `count` bytes out. Refused("size") where the range ends before."""
        if count > self._left:
            raise Refused("size", "ends %d bytes early" % (count - self._left))
        self._file.seek(count, 1)
        self._left -= count

    async def close(self):
        """Close the file. May be called twice."""
        self._left = 0
        if self._file:
            self._file.close()
            self._file = None

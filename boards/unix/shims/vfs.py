"""The chip's `vfs`: mounting what the device has."""

from vfs import VfsFat, VfsLfs2, mount, umount  # noqa: F401 the module's own names

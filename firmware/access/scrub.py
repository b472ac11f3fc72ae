"""Overwrites what NVS has erased, so that a wiped secret cannot be read from the flash. Loaded when it happens."""

from micropython import const

_ENTRIES = const(126)
_ENTRY = const(32)  # bytes
_FIRST = const(64)  # offset of the first entry in its page


def scrub():
    """Overwrite what NVS has erased: it marks an entry as erased and leaves its bytes in the flash.

    ESP-IDF's format: pages of 4096 bytes; a header of 32, a bitmap of two bits for each of 126 entries of 32 bytes (11
    empty, 10 written, 00 erased). Erased entries are never read again, and flash takes zeros over anything: so this
    may be cut at any byte, and repeated. Returns how many entries it overwrote.
    """
    import esp32

    partition = esp32.Partition.find(esp32.Partition.TYPE_DATA, label="nvs")[0]
    entry, zeros, bitmap = bytearray(_ENTRY), bytes(_ENTRY), bytearray(_ENTRY)
    count = 0
    for page in range(partition.ioctl(4, 0)):
        partition.readblocks(page, entry, 0)
        if entry[:4] == b"\xff\xff\xff\xff":
            continue  # never used since its last erase
        corrupt = entry[:4] == b"\x00\x00\x00\x00"  # given up: it is erased before its next use
        partition.readblocks(page, bitmap, _ENTRY)
        for at in range(_ENTRIES):
            if not corrupt and bitmap[at >> 2] >> (at & 3) * 2 & 3:
                continue
            offset = _FIRST + at * _ENTRY
            partition.readblocks(page, entry, offset)
            if entry != zeros:
                partition.writeblocks(page, zeros, offset)
                count += 1
    return count

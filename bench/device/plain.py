"""What an update is compared with: receive the same bodies, hash them, write them to the same files, and no more."""

import gc
import hashlib
import os
import socket
from time import clock, ticks_diff, ticks_us

import start


def run(options):
    """{"us", "cpu", "operations"}; `files` are [path, size], `skip` the bytes of the pack in front of their bodies."""
    buffer = memoryview(bytearray(1024))
    gc.threshold(options["threshold"])
    gc.collect()
    before, cpu, started = start.operations(), clock(), ticks_us()
    sock = socket.socket()
    sock.connect(socket.getaddrinfo("127.0.0.1", options["port"])[0][-1])
    sock.write(b"GET /%s HTTP/1.1\r\nHost: x\r\nRange: bytes=%d-\r\n\r\n" % (options["pack"].encode(), options["skip"]))
    while sock.readline() != b"\r\n":
        pass
    made = set()
    for path, size in options["files"]:
        path = "/slots/b/" + path
        folder = path.rpartition("/")[0]
        if folder not in made:
            try:
                os.mkdir(folder)
            except OSError:
                pass
            made.add(folder)
        hasher = hashlib.sha256()
        with open(path, "wb") as out:
            while size:
                count = sock.readinto(buffer[: min(size, 1024)])
                hasher.update(buffer[:count])
                out.write(buffer[:count])
                size -= count
        hasher.digest()
    sock.close()
    us, cpu = ticks_diff(ticks_us(), started), clock() - cpu
    return {"us": us, "cpu": cpu * 1e6, "operations": start.operations() - before}

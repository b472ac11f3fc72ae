"""Make a TCP connection while other tasks go on."""

import asyncio
import select
import socket
from errno import EINPROGRESS, ETIMEDOUT
from time import ticks_diff, ticks_ms

from micropython import const

_POLL_MS = const(10)


async def dial(host, port, limit_ms):
    """A connected, non-blocking socket. OSError when there is none to be had, with ETIMEDOUT after `limit_ms`."""
    # Resolving a name blocks; lwIP ends that after a few seconds.
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        try:
            sock.connect(address)
        except OSError as error:
            if error.errno != EINPROGRESS:
                raise
        poller = select.poll()
        poller.register(sock, select.POLLOUT)
        started = ticks_ms()
        while not poller.poll(0):
            if ticks_diff(ticks_ms(), started) > limit_ms:
                raise OSError(ETIMEDOUT)
            await asyncio.sleep_ms(_POLL_MS)
        return sock  # refused connections count as made, and fail at the first write
    except BaseException:
        sock.close()
        raise

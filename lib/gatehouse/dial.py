"""Make a TCP connection while other tasks go on, and what TLS on it takes for proof."""

import asyncio
import select
import socket
from errno import EINPROGRESS, ETIMEDOUT
from time import ticks_diff, ticks_ms

from micropython import const

from gatehouse import Refused

_POLL_MS = const(10)
_CONN_EOF = const(-0x7280)  # mbedTLS: closed without a farewell
_ERRNO = const(-256)  # below it are mbedTLS's own error numbers


def tls_context(authorities, certificate=None, key=None):
    """A client's SSLContext: the peer must show a certificate of one of `authorities`, for its host name.

    All are DER bytes; the client shows `certificate` where it has one. Refused("state") for what is no certificate or key.
    """
    import tls

    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED
    try:
        for authority in authorities:
            context.load_verify_locations(authority)
        if certificate:
            context.load_cert_chain(certificate, key)
    except (ValueError, OSError) as error:
        raise Refused("state", "TLS credentials: %s" % error)
    return context


def is_tls(error):
    """Whether an exception of a connection is TLS's own: a certificate that does not hold, or no TLS at all."""
    if isinstance(error, OSError):
        code = error.errno
        return isinstance(code, int) and code < _ERRNO and code != _CONN_EOF
    return isinstance(error, ValueError)  # mbedTLS's reason to refuse a certificate, in words


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

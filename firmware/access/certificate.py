"""The TLS context of the HTTPS interface, and the proof that it lets no plaintext through. Loaded for its start."""

import io

from gatehouse import Refused


def tls_context(store):
    """The server's SSLContext: the device's own certificate. Refused("state") without, "tls" where plaintext passes."""
    import tls

    context = tls.SSLContext(tls.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(store.required("tls_cert"), store.required("tls_key"))
    except (ValueError, OSError) as error:
        raise Refused("state", "TLS credentials: %s" % error)
    refuses_plaintext(context)
    return context


def refuses_plaintext(context):
    """Refused("tls") unless what the context wraps takes plaintext for an error, and not for a request."""
    try:
        read = context.wrap_socket(_Plain(), server_side=True, do_handshake_on_connect=False).read(1)
    except (OSError, ValueError):
        return
    raise Refused("tls", "plaintext passes: %s" % read)


class _Plain(io.IOBase):
    """A connection whose peer speaks plain HTTP."""

    def __init__(self):
        self._left = b"GET / HTTP/1.1\r\nHost: device\r\n\r\n"

    def readinto(self, view):
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def write(self, view):
        return len(view)

    def ioctl(self, request, argument):
        return 0

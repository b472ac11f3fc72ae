"""`urequests`, which micropython-ota needs and the unix port has not: as in micropython-lib, one blocking GET each."""

import socket


class Response:
    """status_code, and text, which is read when it is asked for."""

    def __init__(self, sock, status):
        self.status_code = status
        self._sock = sock

    @property
    def text(self):
        return str(self._sock.read(), "utf-8")

    def close(self):
        self._sock.close()


def get(url, headers=None, timeout=None):
    """A Response; HTTP/1.0, so that the body ends with the connection."""
    _, _, host, path = url.split("/", 3)
    name, _, port = host.partition(":")
    sock = socket.socket()
    sock.settimeout(timeout)
    sock.connect(socket.getaddrinfo(name, int(port))[0][-1])
    sock.write(b"GET /%s HTTP/1.0\r\nHost: %s\r\n\r\n" % (path.encode(), host.encode()))
    status = int(sock.readline().split(None, 2)[1])
    while sock.readline() != b"\r\n":
        pass
    return Response(sock, status)

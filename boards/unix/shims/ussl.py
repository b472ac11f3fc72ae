"""What umqtt.simple 1.3.4 imports for TLS: the function of older MicroPythons, over an SSLContext."""


def wrap_socket(sock, context, server_hostname=None):
    """A TLS connection over `sock`, with the certificates and checks of `context`."""
    return context.wrap_socket(sock, server_hostname=server_hostname)

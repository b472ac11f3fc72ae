"""URI references of packs: RFC 3986, the part of it that a device needs: http, https, and `mqtt:` alone."""

from micropython import const

from gatehouse import Refused

MQTT = "mqtt:"  # as a base or a reference: the pack comes as retained blocks, named by its digest
_MAX_URI = const(512)
_HOST = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"


def split(uri):
    """(host, port, path with query, whether https) of an absolute URI; the path is "" where none is written.

    Refused("unsupported") for other schemes, credentials and IPv6 literals, Refused("format") for no URI at all.
    """
    if len(uri) > _MAX_URI:
        raise Refused("format", "URI")
    for char in uri:
        # Neither may reach the request line: a line break there would be the attacker's own header.
        if not " " < char < "\x7f" or char == "#":
            raise Refused("format", "URI")
    scheme, mark, rest = uri.partition("://")
    secure = scheme.lower() == "https"
    if not secure and scheme.lower() != "http":
        raise Refused("unsupported" if mark else "format", scheme)
    slash = rest.find("/")
    authority, path = (rest, "") if slash < 0 else (rest[:slash], rest[slash:])
    if "@" in authority:
        raise Refused("unsupported", "account")  # which is not repeated here
    host, colon, port = authority.partition(":")
    for char in host:
        if char not in _HOST:
            raise Refused("unsupported", "host")
    if not host or (colon and not (port.isdigit() and len(port) < 6 and 0 < int(port) < 65536)):
        raise Refused("format", "host")
    return host, int(port or (443 if secure else 80)), path, secure


def resolve(reference, base=""):
    """The absolute URI of a reference seen at `base` (RFC 3986 section 5.2), or MQTT. Refused as split()."""
    scheme = reference.partition(":")[0]
    if scheme != reference and "/" not in scheme and "?" not in scheme:
        target = reference
    elif not reference or reference[0] == "?" or reference.startswith("//"):
        raise Refused("unsupported", "URI")
    elif base == MQTT:
        target = base
    else:
        path = split(base)[2]
        root = base[: len(base) - len(path)]
        folder = path.partition("?")[0]
        target = root + (reference if reference[0] == "/" else (folder[: folder.rfind("/") + 1] or "/") + reference)
    if target == MQTT:
        return target
    path = split(target)[2]
    root = target[: len(target) - len(path)]
    path, mark, query = path.partition("?")
    return root + _without_dots(path) + mark + query


def _without_dots(path):
    parts = path.split("/")[1:]
    kept = []
    for part in parts:
        if part == "..":
            if kept:
                kept.pop()
        elif part != ".":
            kept.append(part)
    if not parts or parts[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)

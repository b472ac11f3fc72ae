"""The Manufacturer Usage Description (RFC 8520): which network a device needs, for routers that keep the rest away.

From the configuration that devices get: the broker, the pack server and the time server, names to look up, and the
device's own HTTPS from the local network where the policy opens it. Devices speak IPv4 only. What is not in it a router
that follows it refuses.
"""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
import re
import urllib.parse
from pathlib import Path
from typing import Any

from . import identity, product, statement_fields
from .errors import GatehouseError

HTTPS_PORT = 443  # of the device's own page
DNS = "urn:ietf:params:mud:dns"  # well-known: whatever resolver the network has
_TCP, _UDP = 6, 17
_CACHE_HOURS = 48  # how long a router may go on with what it has
_MAX_INFO = 60  # characters of systeminfo (section 3.7)
_MAX_URL = 255  # of mud-url: DHCP's option has one byte for its length (section 10)
_NAME = re.compile(
    r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\.?", re.I
)


@dataclasses.dataclass(frozen=True)
class Peer:
    """A place that devices open connections to. host: a name, an IPv4 address, or a urn: of a controller class."""

    name: str
    host: str
    protocol: int
    port: int


def config(item: product.Product, file: Path | None = None) -> identity.Config:
    """The configuration that new devices get, or the one in `file`."""
    if file:
        return identity.load_config(file)
    told = dict(item.device)
    host, port = identity.host_and_port(
        str(told.get("broker", "localhost")), told.get("port", product.BROKER_PORT), "broker"
    )
    time_host, time_port = identity.host_and_port(str(told.get("ntp", "pool.ntp.org")), 123, "time server")
    base = identity.folder_url(str(told.get("base_url", product.BASE_URL)))
    told |= {"broker": host, "port": port, "ntp": time_host, "ntp_port": time_port, "base_url": base}
    return identity.change_config(identity.Config(), told, f"{product.FILE}, [device]")


def peers(config: identity.Config) -> list[Peer]:
    """Whom a device with this configuration calls, in order."""
    found = [Peer("broker", config.broker or "localhost", _TCP, config.port or product.BROKER_PORT)]
    if config.ntp != "":
        found.append(Peer("time", config.ntp or "pool.ntp.org", _UDP, config.ntp_port or 123))
    url = urllib.parse.urlsplit(config.base_url or "")
    if url.scheme in ("http", "https") and url.hostname:
        found.append(Peer("packs", url.hostname, _TCP, url.port or (443 if url.scheme == "https" else 80)))
    for protocol, name in ((_UDP, "dns-udp"), (_TCP, "dns-tcp")):
        if any(not _is_address(one.host) for one in found if not one.host.startswith("urn:")):
            found.append(Peer(name, DNS, protocol, 53))
    return found


def make(
    item: product.Product, board: product.Board, config: identity.Config, now: datetime.datetime
) -> dict[str, Any]:
    """The MUD file of a product's devices on one board. GatehouseError names what RFC 8520 does not take."""
    there, back = f"{item.name}-from", f"{item.name}-to"
    called = peers(config)
    out = [_ace(peer, outwards=True) for peer in called]
    into = [_ace(peer, outwards=False) for peer in called]
    if "https" in (config.interfaces or ()):
        out.append(_own("https", outwards=True))
        into.append(_own("https", outwards=False))
    try:
        supported = statement_fields.support(item.data["product"])[1] >= now.date()
    except GatehouseError as error:
        raise GatehouseError(f"{item.root / product.FILE}: {error}") from None
    info = item.statement.get("product")
    if not isinstance(info, str) or info.startswith(statement_fields.FILL_IN):  # it is for routers of others
        info = None
    return {
        "ietf-mud:mud": {
            "mud-version": 1,
            "mud-url": url(item),
            "last-update": now.astimezone(datetime.UTC).isoformat(timespec="seconds"),
            "cache-validity": _CACHE_HOURS,
            "is-supported": supported,
            "systeminfo": (info or f"{item.name} on {board.model}")[:_MAX_INFO],
            "mfg-name": item.domain,
            "model-name": board.model,
            "from-device-policy": {"access-lists": {"access-list": [{"name": there}]}},
            "to-device-policy": {"access-lists": {"access-list": [{"name": back}]}},
        },
        "ietf-access-control-list:acls": {
            "acl": [
                {"name": there, "type": "ipv4-acl-type", "aces": {"ace": out}},
                {"name": back, "type": "ipv4-acl-type", "aces": {"ace": into}},
            ]
        },
    }


def url(item: product.Product) -> str:
    """Where routers fetch it: mud_url of product.toml, by default below the vendor's domain."""
    given = item.data["product"].get("mud_url", f"https://{item.domain}/{item.name}.mud.json")
    if not isinstance(given, str) or not given.startswith("https://") or len(given) > _MAX_URL:
        raise GatehouseError(
            f"{item.root / product.FILE}: mud_url must be an https:// URL of at most {_MAX_URL} characters"
        )
    return given


def loopback(config: identity.Config) -> list[str]:
    """The peers that are this machine: no other network knows them by that name."""
    return [peer.name for peer in peers(config) if peer.host == "localhost" or _is_address(peer.host, loopback=True)]


def _ace(peer: Peer, outwards: bool) -> dict[str, Any]:
    """One access control entry: towards the peer, or its answers."""
    side = "destination" if outwards else "source"
    port = {f"{side}-port": {"operator": "eq", "port": peer.port}}
    matches: dict[str, Any] = {}
    if peer.host.startswith("urn:"):
        matches["ietf-mud:mud"] = {"controller": peer.host}
        matches["ipv4"] = {"protocol": peer.protocol}
    elif _is_address(peer.host):
        matches["ipv4"] = {"protocol": peer.protocol, f"{side}-ipv4-network": f"{peer.host}/32"}
    elif _NAME.fullmatch(peer.host):
        name = "dst" if outwards else "src"
        matches["ipv4"] = {"protocol": peer.protocol, f"ietf-acldns:{name}-dnsname": peer.host}
    else:
        raise GatehouseError(
            f"{peer.name} {peer.host!r} is neither a name nor an IPv4 address: a MUD file cannot say it"
        )
    if peer.protocol == _TCP:
        matches["tcp"] = {"ietf-mud:direction-initiated": "from-device", **port}
    else:
        matches["udp"] = port
    direction = "to" if outwards else "from"
    return {"name": f"{direction}-{peer.name}", "matches": matches, "actions": {"forwarding": "accept"}}


def _own(name: str, outwards: bool) -> dict[str, Any]:
    """The device's own service, for the local network only."""
    side = "source" if outwards else "destination"
    port = {f"{side}-port": {"operator": "eq", "port": HTTPS_PORT}}
    return {
        "name": f"{name}-{'answers' if outwards else 'calls'}",
        "matches": {
            "ietf-mud:mud": {"local-networks": [None]},
            "ipv4": {"protocol": _TCP},
            "tcp": {"ietf-mud:direction-initiated": "to-device", **port},
        },
        "actions": {"forwarding": "accept"},
    }


def _is_address(host: str, loopback: bool = False) -> bool:
    try:
        return ipaddress.IPv4Address(host).is_loopback or not loopback
    except ValueError:
        return False

"""Fetch umqtt.simple, the MQTT client that is frozen into stock ESP32 firmware, for the simulated board.

Its sdist on PyPI has no setup.py, so pip cannot install it; `unearth` finds and downloads it, from where the user's
pip would: the index, links, certificates and proxy of pip's configuration files and PIP_* variables.
"""

import ast
import hashlib
import io
import ssl
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import cast

NAME = "micropython-umqtt.simple"
VERSION = "1.3.4"
SHA256 = "b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f"
MEMBER = f"{NAME}-{VERSION}/umqtt/simple.py"
MAX_MODULE = 64 * 1024  # simple.py has 6 KB; more would not be it


class FetchError(Exception):
    """umqtt.simple cannot be had; the text is the line for the user."""


def parse_pip_config(listing: str) -> dict[str, list[str]]:
    """Read `pip config list`: option name -> values, of those sections that a download obeys.

    pip lets the environment win over the command's section, and that over [global].
    """
    order = ("global", "install", ":env:")
    found: dict[str, dict[str, list[str]]] = {section: {} for section in order}
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if section in found:
            found[section][option] = str(ast.literal_eval(value)).split()
    merged: dict[str, list[str]] = {}
    for section in order:
        merged.update(found[section])
    return merged


def pip_config() -> dict[str, list[str]]:
    """The user's pip configuration, as pip itself reads it."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    return parse_pip_config(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def sources(config: dict[str, list[str]], default_index: str) -> tuple[list[str], list[str]]:
    """(index URLs, find-links) that the configuration asks for; `default_index` where it names no index."""
    links = config.get("find-links", [])
    if config.get("no-index", ["false"])[0].lower() in ("1", "true", "yes", "on"):
        return [], links
    return [*config.get("index-url", [default_index]), *config.get("extra-index-url", [])], links


def candidates(config: dict[str, list[str]], name: str = NAME, version: str = VERSION) -> Iterable[bytes]:
    """The bytes of each file that the user's package indexes offer under a name and version.

    Raises FetchError when an index cannot be reached.
    """
    import httpx2
    from unearth import PackageFinder
    from unearth.errors import UnpackError
    from unearth.fetchers import Fetcher
    from unearth.fetchers.sync import PyPIClient

    cert = config.get("cert")
    trusted = config.get("trusted-host", [])
    connection = PyPIClient(
        trusted_hosts=trusted,
        verify=ssl.create_default_context(cafile=cert[0]) if cert else True,
        proxy=config["proxy"][0] if "proxy" in config else None,
        follow_redirects=True,
    )
    client = cast(Fetcher, connection)  # its own client does not match its own protocol to the letter
    # A finder without sources knows the default index, so no host needs a name here.
    indexes, links = sources(config, PackageFinder(session=client).sources[0]["url"])
    finder = PackageFinder(
        client, index_urls=indexes, find_links=links, trusted_hosts=trusted, no_binary=[name], ignore_compatibility=True
    )
    with tempfile.TemporaryDirectory() as scratch:
        try:
            for package in finder.find_matches(f"{name}=={version}"):
                yield finder.download(package.link, scratch).read_bytes()
        except (httpx2.HTTPError, UnpackError, OSError) as error:
            raise FetchError(f"{name} {version} cannot be downloaded: {str(error).splitlines()[0]}") from error


def pinned(offered: Iterable[bytes], name: str, version: str, sha256: str) -> bytes:
    """The first offered file that has the pinned SHA-256. Raises FetchError where none has."""
    seen: list[str] = []
    for data in offered:
        seen.append(hashlib.sha256(data).hexdigest())
        if seen[-1] == sha256:
            return data
    what = ", ".join(seen) or "nothing, or none is in reach"
    raise FetchError(f"no package index offers {name} {version} with the pinned SHA-256 (offered: {what})")


def module_of(archive: bytes, path: str = MEMBER) -> bytes:
    """simple.py, or the module at another path, out of the sdist.

    Only this one member is read and nothing is extracted, so no path in it counts.

    Raises FetchError when the member is missing, no regular file, or too long.
    """
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        try:
            member = tar.getmember(path)
        except KeyError:
            raise FetchError(f"the sdist holds no {path}") from None
        file = tar.extractfile(member) if member.isreg() and member.size <= MAX_MODULE else None
        if file is None:
            raise FetchError(f"{path} in the sdist is no plain file of at most {MAX_MODULE} bytes")
        return file.read()


def ready(target: Path) -> bool:
    """Whether `target` holds the module that `fetch` wrote there, unchanged."""
    stamp, module = target / "stamp", target / "umqtt" / "simple.py"
    try:
        return stamp.read_text() == f"{SHA256} {hashlib.sha256(module.read_bytes()).hexdigest()}\n"
    except OSError:
        return False


def fetch(target: Path, offered: Iterable[bytes] | None = None) -> None:
    """Write umqtt/simple.py under `target`, from the first offered file that has the pinned SHA-256.

    `offered` is by default what the user's package indexes have. Raises FetchError; then nothing is written.
    """
    found = candidates(pip_config()) if offered is None else offered
    module = module_of(pinned(found, NAME, VERSION, SHA256))
    (target / "umqtt").mkdir(parents=True, exist_ok=True)
    (target / "umqtt" / "simple.py").write_bytes(module)
    (target / "stamp").write_text(f"{SHA256} {hashlib.sha256(module).hexdigest()}\n")

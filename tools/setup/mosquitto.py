"""The broker that `make test` runs against: present, or installed through apt, or a line that says how to get it."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

# Debian asks this script before a package starts its service; 101 means: do not. The tests start brokers of their
# own, and one that listens on the standard port afterwards would be a surprise.
POLICY = Path("/usr/sbin/policy-rc.d")
APT = ["apt-get", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=120"]


class InstallError(Exception):
    """Mosquitto cannot be installed here; the text is the line for the user."""


def present() -> bool:
    """Whether the program is there; Debian puts it into /usr/sbin, which a user's PATH may lack."""
    return shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin") is not None


@contextlib.contextmanager
def no_service_start(policy: Path) -> Iterator[None]:
    """Have packages installed without starting their services. A policy of the machine's owner is left as it is."""
    mine = False
    with contextlib.suppress(FileExistsError):
        with policy.open("x") as file:
            mine = True
            file.write("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        yield
    finally:
        if mine:
            policy.unlink(missing_ok=True)


def install(policy: Path = POLICY) -> None:
    """Install Debian's mosquitto, which takes root. Raises InstallError when that is not possible."""
    apt_install("mosquitto", "Mosquitto", lambda: present(), policy)


def apt_install(package: str, name: str, is_present: Callable[[], bool], policy: Path | None = None) -> None:
    """Install one Debian package, which takes root. Raises InstallError with the line for the user."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise InstallError(f"the tests need {name}: apt-get install {package} (as root), then run make test again")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    wanted = [*APT, "install", "-y", "--no-install-recommends", package]
    with no_service_start(policy or POLICY):
        # Package lists may be missing or old on a fresh machine: then update once and try again.
        for command in (wanted, [*APT, "update"], wanted):
            done = subprocess.run(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            if command is wanted and done.returncode == 0 and is_present():
                return
    errors = [line for line in done.stdout.decode(errors="replace").splitlines() if line.startswith("E:")]
    raise InstallError(f"apt-get could not install {package}: " + (errors[0] if errors else f"exit {done.returncode}"))

"""One boot of the core: which release it would run, every byte of it verified."""

import start  # noqa: F401 the chip that this runs on


def run(options):
    """{"mode", "version"}."""
    from gatehouse import slots

    boot = slots.boot()
    return {"mode": boot.mode, "version": boot.release and boot.release.version, "failure": str(boot.failure)}

"""When an update may be downloaded and installed: NIST IR 8259A, Software Update 5 and 6."""

from gatehouse import Refused

DOWNLOAD = "download"
INSTALL = "install"


def check_enabled(config, components):
    """Refused("disabled") where the configuration takes no updates; configuration and trust anchors always are."""
    if _governed(components) and not config.updates:
        raise Refused("disabled", "updates are switched off by the configuration")


def held(config, components, step, now):
    """What holds a step (DOWNLOAD or INSTALL) back: None, or a text for people. now: Unix seconds or None."""
    if not _governed(components):
        return None
    if not (config.auto_download if step == DOWNLOAD else config.auto_install):
        return "%s on command" % step
    if step == INSTALL and config.window:
        start, minutes = config.window
        if now is None or (now // 60 - start) % 1440 >= minutes:
            return "install in the maintenance window"
    return None


def _governed(components):
    return "app" in components or "firmware" in components

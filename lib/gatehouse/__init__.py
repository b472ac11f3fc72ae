"""The trusted core of Gatehouse: what decides which code may run on this device.

Nothing here imports from the application. Each module loads when it is first needed.
"""

VERSION = "1.0.0"


class Refused(Exception):
    """An input that is not taken. `reason` is a code of gatehouse/reasons.py, `detail` says what and where.

    again: whether the same input may be taken later, because it was not its own fault.
    """

    def __init__(self, reason, detail="", again=False):
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.again = again

    def __str__(self):
        return "%s: %s" % (self.reason, self.detail) if self.detail else self.reason

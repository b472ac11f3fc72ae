"""The errors that a user sees: one line that says what, where and what to do next."""


class GatehouseError(Exception):
    """The answer is no (exit code 1). `reason` is a stable code for machines, where there is one."""

    exit_code = 1

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason


class UsageError(GatehouseError):
    """The call itself is wrong (exit code 2)."""

    exit_code = 2

"""The reason codes of refusals. For people and tests: nothing on the device loads this file."""

# One stable code for each kind of refusal: the same in the exception, the report, the CLI's output
# and the troubleshooting table. A code is never renamed; a new kind of refusal gets a new code. What can end an update
# comes first, in the order of outcome.REASONS, which has the SUIT Report's reason for each.
REASONS = (
    "format",  # malformed, non-deterministic or over a limit of the parser
    "unsupported",  # well-formed, but outside the subset that this core implements
    "key",  # no block by a key that the trust anchors know
    "signature",  # a known key's block that does not verify
    "right",  # signed, but not by the keys that this component requires
    "sequence",  # lower than the install floor, or equal with another digest, or far in the future
    "vendor",
    "class",
    "device",
    "digest",  # bytes that are not those that were signed
    "size",  # longer or shorter than signed, or endless
    "expired",  # use-before has passed, or cannot be judged because the clock is unset
    "clock",  # the clock is not set, so that a time cannot be judged
    "slot",
    "condition",  # another condition of the manifest failed, or a required one is missing
    "component",  # unknown, or not for this way of update
    "path",  # a path that an application tree must not hold
    "module",  # a file that would shadow a module of the core or of MicroPython
    "extraneous",  # a file in the slot that the index does not list
    "core",  # the application needs another core version
    "mpy",  # compiled for another .mpy version
    "full",  # the flash has no room for it
    "http",  # the server's answer is not usable
    "timeout",  # stalled, or slower than the least rate
    "network",  # unreachable, or closed early
    "tls",  # the server's certificate does not hold, or it speaks no TLS
    "memory",  # the heap had no room for it
    "strands",  # trust anchors under which this device would have nothing left to run, or no way to change
    "dev",  # trust anchors flagged dev, on a production build
    "disabled",  # the policy takes no updates of application and firmware
    "health",  # a release on trial did not prove its health
    "failed-before",  # this digest was tried here and did not prove its health
    "busy",  # another update is under way
    "state",  # a file or record of the device itself is missing or damaged
    # Of the interfaces (firmware/access/).
    "operation",  # unknown, or not on this interface
    "denied",  # the role does not reach it
    "fresh",  # the password of the label has to be changed first
    "argument",  # missing, unknown or beyond its limits
    "password",  # wrong user or password
    "locked",  # a delay after wrong passwords runs
    "session",  # it has ended
    "counter",  # a command that was taken before, or that comes after a later one
)

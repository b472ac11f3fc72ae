"""What a device test may import: cases, shared, Skip, raises, seed (MicroPython)."""

import os


class Skip(Exception):
    """Raised by a test that cannot run here, with the reason."""


def cases(name):
    """The data that make() of tests/cases/<name>.py returned; bytes arrive as hex strings.

    The name must be a literal: the plugin reads it from the source to know what to make.
    """
    return _load(os.getenv("GATEHOUSE_CASES") + "/" + name + ".json")


def shared(path):
    """A file of the vectors that lie beside the repository: parsed if it is JSON, else its text.

    Raises Skip where they are not there, as in a clone by itself.
    """
    full = os.getenv("GATEHOUSE_SHARED") + "/vectors/" + path
    try:
        os.stat(full)
    except OSError:
        raise Skip(f"../shared/vectors/{path} is not there")
    if path.endswith(".json"):
        return _load(full)
    with open(full) as file:
        return file.read()


def _load(path):
    import json

    with open(path) as file:
        return json.load(file)


def seed():
    """The session's seed (int); when the test fails the plugin prints it."""
    print("\x1eseed")  # the plugin takes this line out
    return int(os.getenv("GATEHOUSE_SEED"))


class raises:
    """`with raises(Refused, "digest") as caught:` fails unless the block raises exactly that.

    The second argument is the reason code of a Refused, or a part of any other exception's text.
    Afterwards `caught.value` is the exception.
    """

    def __init__(self, kind, match=None):
        self.kind = kind
        self.match = match
        self.value = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if kind is None:
            raise AssertionError(f"{self.kind.__name__} was not raised")
        if not issubclass(kind, self.kind):
            return False
        self.value = value
        if self.match is not None:
            reason = getattr(value, "reason", None)
            if (self.match != reason) if reason else (self.match not in str(value)):
                raise AssertionError(f"{value!r} was raised, not {self.match!r}")
        return True

"""What opens the interfaces that the policy wants, and closes the others."""

from access import auth as auths
from access import operations as operation
from access import policy


async def run(boot, application):
    """Make the registry, the passwords and the dispatcher, and serve what the policy wants; for ever."""
    registry = policy.Registry(boot)
    auth = auths.Auth(boot, registry)
    operations = operation.Operations(boot, application, auth, registry)
    # Each adapter is a task of its own: (name of the interface, how it is started). It is imported only when wanted.

"""Operations on interfaces and thresholds, within what the signed configuration leaves open."""

from access import policy
from gatehouse import Refused


async def interface_set(operations, session, values):
    """Open or close an interface."""
    name, registry = values["name"], operations.policy
    if name not in policy.NAMES.split(" "):
        raise Refused("argument", "there is no interface %s" % name)
    if name in policy.ALWAYS:
        raise Refused("argument", "%s carries updates and reports: it stays open" % name)
    if name == "reset-button":
        # Whoever has stolen an owner's key must not take from the device's holder the way to end that.
        raise Refused("argument", "reset-button is opened and closed by a signed configuration only")
    wanted = [one for one in registry.interfaces if one != name]
    if values["wanted"]:
        wanted.append(name)
    registry.tune("interfaces", wanted)
    return {"interfaces": wanted}


async def config_set(operations, session, values):
    """Change the thresholds of lockout or sessions."""
    operations.policy.tune(values["field"], values["values"])
    return {values["field"]: values["values"]}

"""Every MQTT topic of the product, in one table; the broker's access list is generated from it.

Plain Python, so that the host reads the same file.
"""

# name: (topic, who publishes, retained). {id} is the device, {group} a group, {n} a number.
TABLE = {
    "status": ("gatehouse/{id}/status", "device", True),
    "report": ("gatehouse/{id}/report", "device", True),
    "summary": ("gatehouse/{id}/summary", "device", True),
    "sensor": ("gatehouse/{id}/sensor", "device", False),
    "journal": ("gatehouse/{id}/journal", "device", False),
    "reply": ("gatehouse/{id}/reply", "device", False),
    "offer": ("gatehouse/{id}/offer", "host", True),
    "group-offer": ("gatehouse/group/{group}/offer", "host", True),
    "command": ("gatehouse/{id}/command", "host", False),
    "block": ("gatehouse/block/{digest}/{n}", "host", True),
}


def topic(name, **fields):
    """The topic string of one row, e.g. topic("report", id="gh-1")."""
    return TABLE[name][0].format(**fields)

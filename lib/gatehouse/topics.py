"""Every MQTT topic of the product, in one table; the broker's access list is generated from it.

Plain Python, so that the host reads the same file.
"""

# name, topic, who publishes it, and whether it is retained. {id} is the device, {group} a group, {n} a number.
# One text, because a dictionary of tuples would take four times the memory of the device.
_TABLE = """\
status gatehouse/{id}/status device retained
report gatehouse/{id}/report device retained
summary gatehouse/{id}/summary device retained
sensor gatehouse/{id}/sensor device -
journal gatehouse/{id}/journal device -
journal-ack gatehouse/{id}/journal/ack host -
reply gatehouse/{id}/reply device -
offer gatehouse/{id}/offer host retained
group-offer gatehouse/group/{group}/offer host retained
command gatehouse/{id}/command host -
nonce gatehouse/{id}/nonce host -
block gatehouse/block/{digest}/{n} host retained
ha-config homeassistant/device/{id}/config device retained
ha-update gatehouse/{id}/ha/update device retained
ha-state gatehouse/{id}/ha/state device retained
ha-status homeassistant/status host -
ha-install gatehouse/{id}/ha/install host -"""


def rows():
    """Each row as a list [name, topic, "device" or "host", "retained" or "-"]."""
    for line in _TABLE.split("\n"):
        yield line.split(" ")


def topic(name, **fields):
    """The topic string of one row, e.g. topic("report", id="gh-1"). KeyError when there is no such row."""
    for row in rows():
        if row[0] == name:
            return row[1].format(**fields)
    raise KeyError(name)

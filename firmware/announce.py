"""The announcement of this device to Home Assistant, and its end. Loaded for them.

MQTT discovery with a device payload, as Home Assistant 2026.2 reads it; abbreviated keys are its own.
"""

import json

import gatehouse
from gatehouse import topics

_KNOWN = "ha"  # NVS: 1 once Home Assistant may know this device

# Each part of it once, with what is filled in. The topic of the state is common to all components without their own.
_DEVICE = '{"dev":{"ids":%s,"name":%s,"mdl":%s,"hw":%s,"sw":%s},"o":{"name":"gatehouse","sw":"%s"},'
_COMMON = '"avty_t":"%s","stat_t":"%s","cmps":{'
_SENSOR = '"sensor":{"p":"sensor","uniq_id":"%s-sensor","name":%s,"unit_of_meas":%s,"dev_cla":%s,"stat_t":"%s",'
_READING = '"val_tpl":"{{value_json.value}}","stat_cla":"measurement"},'
_HEALTH = '"health":{"p":"binary_sensor","uniq_id":"%s-health","name":"Health","dev_cla":"problem",'
_REASONS = '"val_tpl":"{{value_json.problem}}","ent_cat":"diagnostic","json_attr_t":"%s","json_attr_tpl":'
_ATTRIBUTES = "\"{{ {'reasons':value_json.reasons,'update':value_json.phase,'reason':value_json.reason}|tojson }}\"},"
_SIGNAL = '"signal":{"p":"sensor","uniq_id":"%s-signal","name":"Signal strength","dev_cla":"signal_strength",'
_DBM = '"val_tpl":"{{value_json.rssi}}","unit_of_meas":"dBm","stat_cla":"measurement","ent_cat":"diagnostic"},'
_UPTIME = '"uptime":{"p":"sensor","uniq_id":"%s-uptime","name":"Uptime","dev_cla":"duration","unit_of_meas":"s",'
_SECONDS = '"val_tpl":"{{value_json.uptime}}","ent_cat":"diagnostic"},'
_UPDATE = '"update":{"p":"update","uniq_id":"%s-update","name":"Firmware","dev_cla":"firmware","ent_cat":"config",'
_INSTALL = '"stat_t":"%s","cmd_t":"%s","pl_inst":"install"}}}'


def announcement(boot, reporter):
    """The discovery message, a text of JSON. From now on it is known, on flash, that there is something to retire."""
    if not boot.store.number(_KNOWN):
        boot.store.put_number(_KNOWN, 1)
    identity, release, sensor = boot.identity, boot.release, reporter.sensor
    name, text = identity.id, json.dumps

    def topic(row):
        return topics.topic(row, id=name)

    parts = [
        _DEVICE % (text(name), text(release.name + " " + name), text(identity.model), text(identity.hardware),
                   text(release.version), gatehouse.VERSION),
        _COMMON % (topic("status"), topic("ha-state")),
        _SENSOR % (name, text(sensor.name), text(sensor.unit), text(sensor.kind), topic("sensor")),
        _READING,
        _HEALTH % name,
        _REASONS % topic("ha-state"),
        _ATTRIBUTES,
        _SIGNAL % name,
        _DBM,
        _UPTIME % name,
        _SECONDS,
        _UPDATE % name,
        _INSTALL % (topic("ha-update"), topic("ha-install")),
    ]  # fmt: skip
    return "".join(parts)


async def retire(boot, link):
    """Empty the retained topics, the announcement first: Home Assistant removes the device. Whether all that is done.

    Does not wait: where the broker does not acknowledge it, somebody asks again.
    """
    if not boot.store.number(_KNOWN):
        return True
    for name in ("ha-config", "ha-update", "ha-state"):
        if not await link.publish_acked(topics.topic(name, id=boot.identity.id), b"", True, 0):
            return False
    boot.store.put_number(_KNOWN, 0)
    return True

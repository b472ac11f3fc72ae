"""Runs in a Python that has the package `homeassistant`: takes what devices tell it as Home Assistant itself does.

Standard input: a list of [{"ha-config": text, ...}] as tests/device_scripts/homeassistant.py prints them. Prints for
each the components after Home Assistant's own checks, what their templates make of the messages, and the update
entity's fields and state. Whatever Home Assistant would not take ends this with its exception.
"""

import asyncio
import json
import sys
import tempfile

import homeassistant.const
from homeassistant.components.mqtt import binary_sensor, discovery, sensor, update
from homeassistant.components.mqtt.models import MqttValueTemplate
from homeassistant.components.mqtt.schemas import DEVICE_DISCOVERY_SCHEMA
from homeassistant.components.update import UpdateEntity
from homeassistant.core import HomeAssistant
from homeassistant.helpers.template import Template

PLATFORMS = {"sensor": sensor, "binary_sensor": binary_sensor, "update": update}


def components(text):
    """Each component as the discovery hands it to its platform, after the platform's schema."""
    payload = discovery.MQTTDiscoveryPayload(json.loads(text))
    discovery._replace_all_abbreviations(payload)
    DEVICE_DISCOVERY_SCHEMA(payload)
    found = {}
    for name, config in payload["components"].items():
        platform = config.pop("platform")
        whole = discovery.MQTTDiscoveryPayload(config)
        whole["device"], whole["origin"] = payload["device"], payload["origin"]
        discovery._merge_common_device_options(whole, payload)
        checked = PLATFORMS[platform].DISCOVERY_SCHEMA(dict(whole))
        lost = set(whole) - set(checked)
        assert not lost, f"{name}: Home Assistant does not know {lost}"
        found[name] = {"platform": platform, **checked}
    return found


def rendered(hass, config, told):
    """What each template makes of the message on its topic."""
    topics = {config.get(key) for key in ("state_topic", "json_attributes_topic")}
    row = "sensor" if any(topic.endswith("/sensor") for topic in topics if topic) else "ha-state"
    found = {}
    for key in ("value_template", "json_attributes_template"):
        if key in config:
            template = Template(str(config[key].template), hass)
            found[key] = MqttValueTemplate(template).async_render_with_possible_json_value(told[row])
    return found


def entity(told):
    """The update entity after the message, as far as its own code decides it."""
    fields = update.MQTT_JSON_UPDATE_SCHEMA(json.loads(told["ha-update"]))
    made = UpdateEntity()
    made._attr_installed_version, made._attr_latest_version = fields["installed_version"], fields["latest_version"]
    made._UpdateEntity__skipped_version = None
    return {**fields, "state": made.state}


async def main():
    with tempfile.TemporaryDirectory() as folder:
        hass = HomeAssistant(folder)
        found = []
        for told in json.load(sys.stdin):
            made = components(told["ha-config"])
            found.append({
                "components": {name: config["platform"] for name, config in made.items()},
                "rendered": {name: rendered(hass, config, told) for name, config in made.items()},
                "update": entity(told),
            })  # fmt: skip
        await hass.async_stop(force=True)
    print(json.dumps({"version": homeassistant.const.__version__, "found": found}))


asyncio.run(main())

"""Runs in a Python that has the package `homeassistant`: Home Assistant itself, with nothing but its MQTT integration.

Arguments: port of the broker, then the files of its authority, and of Home Assistant's certificate and key. Each line
of standard input is a command in JSON, each line of standard output its answer: ["states"] gives devices and states,
["install", entity] presses the button of an update entity.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from types import MappingProxyType

from homeassistant.core import CoreState, HomeAssistant
from homeassistant.helpers import device_registry

from homeassistant import bootstrap, config_entries, core_config, loader


async def started(folder, port, authority, certificate, key):
    """Home Assistant with one configuration entry, as its dialog for MQTT makes it."""
    Path(folder, "configuration.yaml").touch()
    hass = HomeAssistant(folder)
    hass.config.skip_pip = True
    loader.async_setup(hass)
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    await bootstrap.async_load_base_functionality(hass)
    home = {"latitude": 0, "longitude": 0, "elevation": 0, "unit_system": "metric", "time_zone": "UTC", "name": "home"}
    await core_config.async_process_ha_core_config(hass, home)
    hass.set_state(CoreState.running)
    data = {"broker": "localhost", "port": int(port), "protocol": "3.1.1", "client_id": "home-assistant"}
    names = {"certificate": authority, "client_cert": certificate, "client_key": key}
    entry = config_entries.ConfigEntry(
        domain="mqtt",
        title="mqtt",
        version=1,
        minor_version=2,
        source="user",
        unique_id=None,
        data=data | {name: Path(path).read_text() for name, path in names.items()},
        options={},
        discovery_keys=MappingProxyType({}),
        subentries_data=None,
    )
    await hass.config_entries.async_add(entry)
    return hass, entry


def told(hass):
    """Its devices, and the state and attributes of each entity."""
    devices = [[one.name, one.model, one.sw_version] for one in device_registry.async_get(hass).devices.values()]
    states = {one.entity_id: [one.state, dict(one.attributes)] for one in hass.states.async_all()}
    return {"devices": devices, "states": states}


async def main():
    with tempfile.TemporaryDirectory() as folder:
        hass, entry = await started(folder, *sys.argv[1:])
        print(json.dumps(entry.state.value), flush=True)
        while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
            command = json.loads(line)
            if command[0] == "install":
                await hass.services.async_call("update", "install", {"entity_id": command[1]}, blocking=True)
            print(json.dumps(told(hass), default=str), flush=True)
        await hass.async_stop(force=True)


asyncio.run(main())

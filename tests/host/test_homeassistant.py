"""What a device tells Home Assistant, against its documented keys, and against Home Assistant itself where it is there.

Home Assistant needs a newer Python than these tests: GATEHOUSE_HOMEASSISTANT names one that has it. Checked with
2026.2.3. Its documents: https://www.home-assistant.io/integrations/mqtt/ and update.mqtt, sensor.mqtt, ... beside it.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from cases import homeassistant as made
from gatehouse_tools import topics
from servers import device

TESTS = Path(__file__).resolve().parents[1]
CASES = {name: [item.hex() for item in pair] for name, pair in made.make().items()}
HOME_ASSISTANT = os.environ.get("GATEHOUSE_HOMEASSISTANT")

# Abbreviated keys that each part may have, in Home Assistant's documents; the first ones it must have.
ROOT: tuple[set[str], set[str]] = ({"dev", "o", "cmps"}, {"avty_t", "stat_t", "cmd_t", "qos", "e"})
DEVICE = ({"ids"}, {"name", "mdl", "hw", "sw", "mf", "sn", "sa", "cu"})
ORIGIN = ({"name"}, {"sw", "url"})
COMMON = {"name", "uniq_id", "ent_cat", "en", "ic", "json_attr_t", "json_attr_tpl", "stat_t", "val_tpl"}
COMPONENT = {
    "sensor": ({"p", "uniq_id"}, COMMON | {"dev_cla", "unit_of_meas", "stat_cla", "exp_aft"}),
    "binary_sensor": ({"p", "uniq_id"}, COMMON | {"dev_cla", "pl_on", "pl_off", "exp_aft"}),
    "update": ({"p", "uniq_id", "stat_t"}, COMMON | {"dev_cla", "cmd_t", "pl_inst", "rel_u", "ret"}),
}
# Device classes with the units that Home Assistant takes for them.
CLASSES: dict[str, dict[str, set]] = {
    "sensor": {"temperature": {"°C", "°F", "K"}, "signal_strength": {"dB", "dBm"}, "duration": {"d", "h", "min", "s"}},
    "binary_sensor": {"problem": {None}},
    "update": {"firmware": {None}},
}
UPDATE = {"installed_version", "latest_version", "title", "release_summary", "update_percentage", "in_progress"}
JOBS: dict[str, dict] = {
    "idle": {"state": "idle"},
    "waits": {"state": "available", "offer": CASES["app"]},
    "downloads": {"state": "downloading", "offer": CASES["app"], "done": 3, "total": 12},
    "unnamed": {"state": "downloaded", "offer": CASES["none"]},
    "firmware": {"state": "available", "offer": CASES["firmware"]},
    "trial": {"state": "trial", "mode": "trial"},
    "fault": {"state": "idle", "fault": True},
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """{job: {row of the topic table: text}}, by the device's own code."""
    before = [str(TESTS / "device"), str(TESTS.parent / "firmware")]

    def run(job):
        return device.run("homeassistant.py", {"folder": str(tmp_path_factory.mktemp("device")), **job}, before=before)

    return {name: run(job) for name, job in JOBS.items()}


def keys(part, allowed):
    required, more = allowed
    assert required <= set(part) <= required | more, set(part) ^ required


def test_announcement_has_documented_keys_only(told):
    text = told["idle"]["ha-config"]
    payload = json.loads(text)
    keys(payload, ROOT)
    keys(payload["dev"], DEVICE)
    keys(payload["o"], ORIGIN)
    assert len(text.encode()) < 1400, "one TLS record of the link"
    for name, part in payload["cmps"].items():
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", name)
        keys(part, COMPONENT[part["p"]])
        assert part.get("unit_of_meas") in CLASSES[part["p"]][part["dev_cla"]]
        assert part.get("ent_cat") in (None, "config", "diagnostic") and part.get("stat_cla") in (None, "measurement")
        assert "stat_t" in part or "stat_t" in payload
    assert payload["cmps"]["update"]["ent_cat"] == "config" and payload["cmps"]["update"]["pl_inst"] == "install"


def test_every_topic_is_one_of_the_table_that_home_assistant_may_use(told):
    payload = json.loads(told["idle"]["ha-config"])
    parts = [payload, *payload["cmps"].values()]
    read = {part[key] for part in parts for key in ("avty_t", "stat_t", "json_attr_t") if key in part}
    written = {part["cmd_t"] for part in parts if "cmd_t" in part}
    assert read == {topics.topic(name, id="gh-1") for name in ("status", "sensor", "ha-state", "ha-update")}
    assert written == {topics.topic("ha-install", id="gh-1")}
    rules = topics.home_assistant_rules()
    for kind, found in (("read", read), ("write", written)):
        for topic in found:
            assert any(access == kind and topics.covers(rule, topic) for access, rule in rules), topic
    assert topics.topic("ha-config", id="gh-1") == "homeassistant/device/gh-1/config"
    assert topics.topic("ha-status") == "homeassistant/status"


def test_templates_ask_for_what_the_messages_have(told):
    """By a name that is no attribute of a dictionary: those come first in a template."""
    for found in told.values():
        payload = json.loads(found["ha-config"])
        for part in payload["cmps"].values():
            message = json.loads(found["sensor" if "sensor" in part.get("stat_t", "") else "ha-state"])
            for name in re.findall(r"value_json\.(\w+)", part.get("val_tpl", "") + part.get("json_attr_tpl", "")):
                assert name in message and not hasattr(dict, name)


@pytest.mark.parametrize("name", JOBS)
def test_update_has_exactly_the_fields_that_home_assistant_takes(told, name):
    found = json.loads(told[name]["ha-update"])
    assert set(found) == UPDATE  # with one more, Home Assistant drops the whole message
    for field in ("installed_version", "latest_version", "title", "release_summary"):
        assert isinstance(found[field], str) and len(found[field]) <= 255
    assert found["update_percentage"] is None or 0 <= found["update_percentage"] <= 100
    assert isinstance(found["in_progress"], bool) and (found["in_progress"] or found["update_percentage"] is None)


def test_health_is_what_a_problem_sensor_takes(told):
    for name, found in told.items():
        assert json.loads(found["ha-state"])["problem"] == ("ON" if name == "fault" else "OFF")


@pytest.mark.skipif(not HOME_ASSISTANT, reason="GATEHOUSE_HOMEASSISTANT names no Python that has Home Assistant")
def test_home_assistant_itself_takes_all_of_it(told):
    command = [HOME_ASSISTANT, str(TESTS / "peers" / "homeassistant_schema.py")]
    done = subprocess.run(command, input=json.dumps(list(told.values())), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = dict(zip(told, json.loads(done.stdout)["found"], strict=True))
    for name, one in found.items():
        assert sorted(one["components"]) == ["health", "sensor", "signal", "update", "uptime"]
        made = one["rendered"]
        assert made["sensor"]["value_template"] == ("None" if name == "fault" else "21")
        assert made["health"]["value_template"] == ("ON" if name == "fault" else "OFF")
        assert json.loads(made["health"]["json_attributes_template"]) == {
            "reasons": ["sensor"] if name == "fault" else [], "update": JOBS[name]["state"], "reason": None,
        }  # fmt: skip
        assert made["signal"]["value_template"] == "-61" and made["uptime"]["value_template"].isdigit()
    states = {name: one["update"]["state"] for name, one in found.items()}
    on = {"waits", "downloads", "unnamed", "firmware"}
    assert states == {name: "on" if name in on else "off" for name in JOBS}

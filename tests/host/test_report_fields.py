"""Which test sees which field of the report follow its cause on a running device. None is missing, each is there."""

import ast
import re

import pytest

from gatehouse_tools import core, report_words

FOLLOWS = "test_report_follows.py::"
UPDATE = FOLLOWS + "test_all_that_an_update_changes_follows"
BOOTS = FOLLOWS + "test_boots_and_their_causes_follow"
IDENTITY = "test_report.py::test_identity_is_the_devices_own"
LOCKED = "test_report.py::test_report_follows_policy_and_fuses_and_answers_nonces"
ACCESS = FOLLOWS + "test_access_and_postponed_updates_follow"
LINK = FOLLOWS + "test_sensor_signal_and_link_follow"
LOSSES = "test_link.py::test_each_loss_of_the_network_is_recovered_without_a_reset_and_counted"
REFUSED = "test_update.py::test_tampered_pack_is_refused_and_the_restored_one_taken"

# Field, in the words of report_words.py: the test in tests/system that changes its cause.
TESTS = {
    "time": BOOTS,
    "nonce": LOCKED,
    "ueid": IDENTITY,
    "vendor": IDENTITY,
    "model": IDENTITY,
    "hardware": IDENTITY,
    "uptime": BOOTS,
    "oem_boot": "test_report.py::test_oem_boot_is_told_where_secure_boot_checked_the_core_that_runs",
    "debug": LOCKED,
    "boots": BOOTS,
    "boot_seed": BOOTS,
    "name": IDENTITY,
    "version": UPDATE,
    "manifests": UPDATE,
    "measurements": UPDATE,
    "comparison": FOLLOWS + "test_slot_is_degraded_while_a_file_of_it_is_not_what_was_signed",
    "slot": UPDATE,
    "mode": UPDATE,
    "manifest": UPDATE,
    "sequence": UPDATE,
    "record": BOOTS,
    "floors": UPDATE,
    "reset": BOOTS,
    "update.state": UPDATE,
    "update.reason": REFUSED,
    "update.digest": UPDATE,
    "update.sequence": REFUSED,
    "update.detail": REFUSED,
    "update.files": UPDATE,
    "refused.reason": REFUSED,
    "refused.digest": REFUSED,
    "refused.sequence": REFUSED,
    "refused.detail": REFUSED,
    "refused.count": REFUSED,
    "configuration": FOLLOWS + "test_interface_is_degraded_while_it_is_not_as_the_policy_wants",
    "trust": "test_trust.py::test_all_keys_change_over_the_air",
    "core": FOLLOWS + "test_digest_of_the_core_follows_its_files",
    "heap_free": FOLLOWS + "test_report_that_finds_no_memory_is_left_out_and_counted",
    "flash_free": UPDATE,
    "counter": BOOTS,
    "degraded": FOLLOWS + "test_slot_is_degraded_while_a_file_of_it_is_not_what_was_signed",
    "failure": FOLLOWS + "test_recovery_and_its_failure_are_told_until_they_are_over",
    "journal": BOOTS,
    "policy.updates": FOLLOWS + "test_interface_is_degraded_while_it_is_not_as_the_policy_wants",
    "policy.auto_download": FOLLOWS + "test_interface_is_degraded_while_it_is_not_as_the_policy_wants",
    "policy.auto_install": LOCKED,
    "policy.notify": FOLLOWS + "test_interface_is_degraded_while_it_is_not_as_the_policy_wants",
    "policy.window": LOCKED,
    "policy.postponed_seconds": ACCESS,
    "fuses.flash_encryption": LOCKED,
    "fuses.secure_boot": LOCKED,
    "fuses.download_mode": LOCKED,
    "fuses.jtag": LOCKED,
    "sensor.value": LINK,
    "sensor.time": LINK,
    "link.connects": LOSSES,
    "link.dropped": LOSSES,
    "link.wifi_losses": LOSSES,
    "link.left_out": FOLLOWS + "test_report_that_finds_no_memory_is_left_out_and_counted",
    "link.oversize": LINK,
    "link.failures": LOSSES,
    "wifi.address": FOLLOWS + "test_address_follows_the_network",
    "wifi.signal": LINK,
    "interfaces": FOLLOWS + "test_interface_is_degraded_while_it_is_not_as_the_policy_wants",
    "access.sessions": ACCESS,
    "access.label_password": ACCESS,
    "access.lockouts": ACCESS,
    "access.repl_seconds": "test_console.py::test_the_service_window_opens_for_mpremote_is_reported_and_ends",
}
NOTHING_CHANGES = {
    "profile": "names the form of the report itself",
    "intended_use": "generic, the only use of RFC 9711 that a state report has",
    "sensor.name": "stands in the application's source; another application is another release",
    "sensor.unit": "the same",
}

# Reasons to be degraded: the test that sees each come and go.
DEGRADED = {
    "recovery": FOLLOWS + "test_recovery_and_its_failure_are_told_until_they_are_over",
    "boot": FOLLOWS + "test_recovery_and_its_failure_are_told_until_they_are_over",
    "clock": "test_link.py::test_without_a_clock_it_reports_and_takes_no_offer_until_it_has_one",
    "dev": "test_dev.py::test_flag_is_told_while_it_is_there",
    "slot": FOLLOWS + "test_slot_is_degraded_while_a_file_of_it_is_not_what_was_signed",
    "sensor": LINK,
    "interface": FOLLOWS + "test_interface_is_degraded_while_it_is_not_as_the_policy_wants",
    "repl": "test_console.py::test_the_service_window_opens_for_mpremote_is_reported_and_ends",
}


INNER = {
    "update": report_words.UPDATE,
    "refused": report_words.REFUSAL,
    "sensor": report_words.SENSOR,
    "link": report_words.LINK,
    "wifi": report_words.WIFI,
    "access": report_words.ACCESS,
    "policy": report_words.POLICY,
    "fuses": report_words.FUSES,
}


def test_each_field_has_a_test_or_a_reason():
    found = {name for table in (report_words.CLAIMS, report_words.GATEHOUSE) for name, _, _ in table.values() if name}
    assert set(INNER) < found
    found -= set(INNER)
    found |= {f"{name}.{field}" for name, table in INNER.items() for field, _, _ in table.values()}
    assert found == set(TESTS) | set(NOTHING_CHANGES)


def test_each_reason_to_be_degraded_has_a_test():
    text = core.source("docs", "report.md").read_text()
    told = text.split("Reasons to be degraded:")[1].split("\n\n")[0]
    assert {name.partition(":")[0] for name in re.findall(r"`([a-z]+(?::[A-Z]+)?)`", told)} == set(DEGRADED)


@pytest.mark.parametrize("test", sorted({*TESTS.values(), *DEGRADED.values()}))
def test_each_named_test_is_there(test):
    file, _, name = test.partition("::")
    tree = ast.parse(core.source("tests", "system", file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}

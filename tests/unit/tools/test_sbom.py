"""What an installation consists of, as a CycloneDX document."""

import json
import re

from tools.sbom import FILES, document
from worker.engine.install.layout import LOCKS
from worker.engine.install.locks import read_lock


def test_it_has_what_cyclonedx_asks_for() -> None:
    found = document()
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", found["serialNumber"])
    references = [component["bom-ref"] for component in found["components"]]
    assert len(references) == len(set(references))
    for component in found["components"]:
        assert component["type"] in {"library", "application"}
        assert component["name"]
        assert component["version"]


def test_every_package_of_every_lock_is_in_it_with_the_sums_of_its_files() -> None:
    sums = {
        component["bom-ref"]: {one["content"] for one in component["externalReferences"][0]["hashes"]}
        for component in document()["components"]
    }
    for file in FILES:
        for pin in read_lock(LOCKS / file):
            assert sums[f"pkg:pypi/{pin.name}@{pin.version}"] == set(pin.sha256)
    assert all(re.fullmatch("[0-9a-f]{64}", one) for each in sums.values() for one in each)


def test_the_engine_and_the_installer_are_in_it_too() -> None:
    names = {component["name"] for component in document()["components"]}
    assert {"ComfyUI", "uv", "torch"} <= names


def test_two_documents_of_the_same_locks_are_the_same_bytes() -> None:
    assert json.dumps(document(), sort_keys=True) == json.dumps(document(), sort_keys=True)

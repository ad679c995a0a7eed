"""Prints what an installation consists of, as CycloneDX 1.6: `tools/in-runtime python -m tools.sbom > sbom.json`.

From the lock files and the pins in the code alone, so that a release and everyone who checks it get the same bytes.
"""

import json
import sys
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from worker import __version__
from worker.engine.install.layout import LOCKS
from worker.engine.install.locks import Pin, read_lock
from worker.engine.install.plan import COMFYUI
from worker.engine.install.uv import PINS

#: Lock file -> what its packages are for.
FILES = {
    "worker.txt": "the worker",
    "torch.txt": "torch, its default build",
    "engine.txt": "ComfyUI",
    "pack.txt": "the node pack",
    "safety.txt": "the safety checker",
}
#: Makes the same document's number the same.
NAMESPACE = uuid.UUID("6f6f2f2e-5f2c-5d0e-9a53-0c1c0c6f9d11")


def document() -> dict[str, Any]:
    """The whole document, without a date."""
    components = [*_packages(), _comfyui(), *_uv()]
    body = {
        "metadata": {"component": {"type": "application", "name": "horde-bridge", "version": __version__,
                                   "licenses": [{"license": {"id": "AGPL-3.0-or-later"}}]}},
        "components": components,
    }  # fmt: skip
    number = uuid.uuid5(NAMESPACE, json.dumps(body, sort_keys=True))
    head = {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{number}", "version": 1}
    return {**head, **body}


def _packages() -> Iterator[dict[str, Any]]:
    """One component for a package and version, whatever number of locks name it."""
    purposes: dict[tuple[str, str], list[str]] = {}
    pins: dict[tuple[str, str], Pin] = {}
    for file, purpose in FILES.items():
        for pin in read_lock(LOCKS / file):
            key = (pin.name, pin.version)
            purposes.setdefault(key, []).append(purpose)
            pins[key] = pin
    for key, pin in sorted(pins.items()):
        yield _component(pin, ", ".join(dict.fromkeys(purposes[key])))


def _component(pin: Pin, purpose: str) -> dict[str, Any]:
    address = f"pkg:pypi/{quote(pin.name)}@{quote(pin.version)}"
    properties = [{"name": "horde-bridge:for", "value": purpose}]
    if pin.marker:
        properties.append({"name": "horde-bridge:where", "value": pin.marker})
    return {
        "type": "library",
        "bom-ref": address,
        "name": pin.name,
        "version": pin.version,
        "purl": address,
        "externalReferences": [_files(f"https://pypi.org/project/{pin.name}/{pin.version}/#files", pin.sha256)],
        "properties": properties,
    }


def _files(url: str, sums: tuple[str, ...]) -> dict[str, Any]:
    return {"type": "distribution", "url": url, "hashes": [{"alg": "SHA-256", "content": one} for one in sums]}


def _comfyui() -> dict[str, Any]:
    address = f"pkg:pypi/{COMFYUI.name}@{COMFYUI.version}"
    page = f"https://pypi.org/project/{COMFYUI.name}/{COMFYUI.version}/#files"
    return {
        "type": "application",
        "bom-ref": "comfyui",
        "name": "ComfyUI",
        "version": "0.3.75",
        "licenses": [{"license": {"id": "GPL-3.0-only"}}],
        "purl": "pkg:github/comfyanonymous/ComfyUI@v0.3.75",
        "pedigree": {"notes": f"Its files come unmodified out of {address}."},
        "externalReferences": [_files(page, COMFYUI.sha256)],
    }


def _uv() -> Iterator[dict[str, Any]]:
    rows = [line.split() for line in PINS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    address = f"pkg:pypi/uv@{rows[0][1]}"
    reference = _files(f"https://pypi.org/project/uv/{rows[0][1]}/#files", tuple(row[3] for row in rows))
    yield {
        "type": "application", "bom-ref": address, "name": "uv", "version": rows[0][1], "purl": address,
        "externalReferences": [reference],
        "properties": [{"name": "horde-bridge:for", "value": "the set-up"}],
    }  # fmt: skip


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")

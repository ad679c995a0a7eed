"""What containers/ holds is held against the worker: settings, ports, probes, the time to drain, and rights."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from worker.config.environment import NO_KEYS, PREFIX, from_environment, with_secret_files
from worker.config.schema import BridgeData
from worker.scheduling.drain import DRAIN_LIMIT_S

FOLDER = Path(__file__).resolve().parents[3] / "containers"
KUBERNETES = FOLDER / "kubernetes"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
CUSTOMIZATION = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
PORT = BridgeData().dashboard_port


def document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((KUBERNETES / name).read_text())
    return found


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = document("daemonset.yaml")["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    [found] = pod()["containers"]
    assert isinstance(found, dict)
    return found


def settings_everywhere() -> Iterator[tuple[str, dict[str, str]]]:
    for name, service in COMPOSE["services"].items():
        yield f"compose {name}", {key: str(value) for key, value in service["environment"].items()}
    [generated] = CUSTOMIZATION["configMapGenerator"]
    yield "kustomization", dict(line.split("=", 1) for line in generated["literals"])
    yield "daemonset", {each["name"]: each.get("value", "") for each in container()["env"]}
    yield "image", dict(re.findall(r"^(?:ENV|   ) *(AIWORKER_\w+)=(\S+)", DOCKERFILE, re.MULTILINE))


@pytest.mark.parametrize(("place", "variables"), list(settings_everywhere()))
def test_every_variable_is_a_setting_of_the_worker(place: str, variables: dict[str, str], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdefghijkl")
    own = {name: value for name, value in variables.items() if name.startswith(PREFIX)}
    files = {name: str(secret) for name in own if name.endswith("_FILE")}
    read = with_secret_files(own | files)
    assert not [name for name in read if name.endswith("_FILE")], place
    _, warnings = from_environment(
        {name: "1" for name in read if name not in NO_KEYS and name != "AIWORKER_CACHE_HOME"}
    )
    assert warnings == (), place


@pytest.mark.parametrize("name", sorted(path.name for path in KUBERNETES.glob("*.yaml")))
def test_kubernetes_knows_every_manifest(name: str) -> None:
    found = document(name)
    if found["kind"] == "Kustomization":
        assert {path.name for path in KUBERNETES.glob("*.yaml")} - {name} - {"podmonitor.yaml"} == set(
            found["resources"]
        )
    elif found["kind"] != "PodMonitor":
        kubernetes_validate.validate(found, "1.31", strict=True)


def test_the_worker_drains_within_every_grace_period() -> None:
    for service in COMPOSE["services"].values():
        assert float(service["stop_grace_period"].removesuffix("s")) > DRAIN_LIMIT_S
    assert pod()["terminationGracePeriodSeconds"] > DRAIN_LIMIT_S


def test_the_worker_has_no_more_rights_than_it_needs() -> None:
    for service in COMPOSE["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert not service["user"].startswith("0")
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    rights = container()["securityContext"]
    assert (rights["readOnlyRootFilesystem"], rights["allowPrivilegeEscalation"]) == (True, False)
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["automountServiceAccountToken"] is False
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)


def test_the_base_is_pinned_and_no_secret_is_baked_in() -> None:
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)$", DOCKERFILE, re.MULTILINE) == ["${BASE}"]
    assert not re.search(r"API_KEY|TOKEN", DOCKERFILE)


def test_probes_ask_where_the_worker_answers() -> None:
    assert f"EXPOSE {PORT}" in DOCKERFILE
    assert f"127.0.0.1:{PORT}/healthz" in DOCKERFILE
    [port] = container()["ports"]
    assert port["containerPort"] == PORT
    paths = [container()[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    assert paths == [{"path": path, "port": port["name"]} for path in ("/startupz", "/healthz", "/readyz")]
    assert all(f":{PORT}:{PORT}" in each for service in COMPOSE["services"].values() for each in service["ports"])


def test_the_image_gets_all_that_the_set_up_needs_and_nothing_of_an_owner() -> None:
    lines = (FOLDER.parent / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert {"worker", "comfy_workflows", "pyproject.toml", "update-runtime.sh", "containers/entrypoint.sh"} <= let_in
    assert not {path for path in let_in if path.startswith(("bridgeData.yaml", "runtime", "models", ".env"))}
    assert all((FOLDER.parent / path).exists() for path in let_in)


def start(tmp_path: Path, *arguments: str, **environment: str) -> str:
    """What the entry point starts: its arguments and the worker's name."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\necho "name: $AIWORKER_DREAMER_NAME"\n')
    python.chmod(0o755)
    script = (FOLDER / "entrypoint.sh").read_text().replace("/state", str(tmp_path))
    entry = tmp_path / "entrypoint.sh"
    entry.write_text(script)
    entry.chmod(0o755)
    told = {"PATH": os.environ["PATH"], "HORDE_BRIDGE_PYTHON": str(python), **environment}
    command = ["sh", str(entry), *arguments]
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout + done.stderr


@pytest.fixture
def home() -> Iterator[Path]:
    # Not pytest's own: as root the script becomes another user, who has no way into those.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


def test_without_a_file_the_settings_come_from_the_environment(home: Path) -> None:
    assert "-I -m worker.cli run -e -v" in start(home, "run", "-v")
    assert "-I -m worker.cli run -e\n" in start(home)
    (home / "bridgeData.yaml").touch()
    assert "-I -m worker.cli run\n" in start(home, "run")


def test_other_commands_get_their_arguments_as_they_are(home: Path) -> None:
    assert "-I -m worker.cli status --json\n" in start(home, "status", "--json")


def test_the_worker_is_named_after_its_host(home: Path) -> None:
    host = os.uname().nodename
    assert f"name: {host}\n" in start(home)
    assert f"name: fleet {host} a\n" in start(home, AIWORKER_DREAMER_NAME="fleet {hostname} a")
    assert "name: my own\n" in start(home, AIWORKER_DREAMER_NAME="my own")


@pytest.mark.parametrize("wrong", ["0", "root", "1;id", "-1"])
def test_a_container_started_as_root_runs_the_worker_as_an_ordinary_user_only(home: Path, wrong: str) -> None:
    if os.getuid() == 0:
        told = start(home, PUID=wrong, PGID="10001")
        assert "ERROR" in told
        assert "worker.cli" not in told
    else:
        assert "worker.cli" in start(home, PUID=wrong), "the variables count where it starts as root"

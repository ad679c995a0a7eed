"""`horde-bridge run` as a process: from the settings to a delivered picture, and to its end."""

import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import MODEL
from worker.demo.horde.records import Outcome, User
from worker.demo.safety.script import SafetyFault, SafetyFaultKind, SafetyScript
from worker.demo.tiny.recipes import build_command, engine_tree, models_folder

pytestmark = pytest.mark.e2e


@pytest.fixture
def engine_python() -> Path:
    """The engine is the worker's child itself: tests look at whether it is gone."""
    return Path(sys.executable)


def test_the_worker_serves_what_its_settings_say_and_ends_in_order_when_told(owner):
    owner.python = Path(sys.executable)
    requests = owner.ask(3, width=128)
    owner.start()
    owner.done(requests)
    owner.signal(signal.SIGTERM)
    assert owner.end() == 0, owner.output
    assert owner.outcomes() == {Outcome.OK: 3}
    picture = owner.horde.state.deliveries(requests[0])[0].picture()
    assert (picture.width, picture.height) == (128, 64)


def test_the_name_on_the_command_line_is_the_workers(owner):
    owner.arguments = ["-n", "another name"]
    requests = owner.ask()
    owner.start()
    owner.done(requests)
    assert [worker["name"] for worker in owner.horde.state.workers()] == ["another name"]


def test_no_job_is_taken_before_the_safety_checker_can_look_at_it_and_the_owner_is_told_why(owner):
    broken = SafetyScript(faults=(SafetyFault(SafetyFaultKind.NO_WEIGHTS, times=2),))
    broken.write(owner.folder / "safety.json")
    requests = owner.ask(1)
    owner.start()
    owner.done(requests)
    owner.signal()
    assert owner.end() == 0, owner.output
    assert owner.outcomes() == {Outcome.OK: 1}
    assert "The weights can't be had: no network. Check the network." in owner.output


def test_a_killed_worker_takes_its_safety_checker_with_it(owner):
    owner.start()
    owner.until(lambda: "Safety checker ready" in owner.output)
    children = psutil.Process(owner.process.pid).children()
    owner.signal(signal.SIGKILL)
    owner.end()
    owner.process = None
    owner.until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))


def test_a_worker_without_any_model_says_why_and_goes_on_trying(owner):
    owner.configure(models_to_load=["Deliberate"], custom_models=[])
    owner.start()
    owner.until(lambda: "lists holds no list of image models" in owner.output)
    owner.until(lambda: "so far with 0 models" in owner.output)
    owner.signal(signal.SIGTERM)
    assert owner.end() == 0, owner.output


def test_torch_for_another_card_than_the_flag_names_ends_in_what_to_run(owner):
    owner.configure(comfyui_path=None, comfyui_python=None)
    done = owner.command("run", "--directml", "0")
    assert done.returncode == 1
    assert "update-runtime" in done.stderr.splitlines()[-1]


@pytest.mark.engine
def test_the_real_engine_delivers_a_picture_of_a_model_of_the_owners_own(owner, runtime):
    owner.python = Path(sys.executable)
    folder = runtime.folder / "tiny"
    subprocess.run(build_command(runtime.engine_python, runtime.comfyui, folder, ["sd15"]), check=True)
    model = models_folder(folder) / "compvis" / "tiny_sd15.safetensors"
    owner.configure(
        comfyui_path=str(engine_tree(folder)),
        comfyui_python=str(runtime.engine_python),
        custom_models=[{**owner.config["custom_models"][0], "filepath": str(model)}],
    )
    requests = owner.ask(1)
    owner.start()
    owner.done(requests)
    owner.signal()
    assert owner.end() == 0, owner.output
    picture = owner.horde.state.deliveries(requests[0])[0].picture()
    assert (picture.width, picture.height) == (64, 64)


def test_the_terminal_tells_of_each_job_and_of_the_state_every_so_often(owner):
    owner.configure(stats_output_frequency=1)
    requests = owner.ask()
    owner.start()
    owner.done(requests)
    owner.until(lambda: ", 1 job done, 0 faulted; 1 image delivered, 0 faulted" in owner.output)
    assert "popped, Tiny SD1.5, 64x64, 4 steps" in owner.output
    assert "submitted, " in owner.output
    assert "Engine 1 (" in owner.output
    assert "Account owner" in owner.output
    owner.signal()
    assert owner.end() == 0, owner.output


def test_a_quiet_worker_says_nothing_while_all_is_well(owner):
    owner.arguments = ["-q"]
    owner.configure(stats_output_frequency=1)
    requests = owner.ask()
    owner.start()
    owner.done(requests)
    owner.signal()
    assert owner.end() == 0, owner.output
    assert not any(word in owner.output for word in ("popped", "submitted", "INFO", "SUCCESS", "jobs done"))


def test_on_a_terminal_the_status_stays_at_the_bottom_and_jobs_go_by_above(owner):
    owner.configure(stats_output_frequency=3600)
    requests = owner.ask()
    terminal, line = pty.openpty()
    seen = bytearray()

    def read() -> None:
        while True:
            try:
                seen.extend(os.read(terminal, 4096))
            except OSError:  # the worker has ended, and with it the line
                return

    owner.start(stderr=line, TERM="xterm", CI=None)
    os.close(line)
    reader = threading.Thread(target=read)
    reader.start()
    owner.done(requests)
    owner.until(lambda: b"  1 job, " in seen)
    assert b"submitted, " in seen
    owner.signal()
    assert owner.end() == 0
    reader.join()
    os.close(terminal)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"api_key": "0000000000"}, "the API key is the anonymous one"),
        ({"api_key": "u" * 22}, "knows no account with this API key"),
        ({"dreamer_name": "taken"}, "The worker name 'taken' belongs to another account."),
        ({"cache_home": "bridgeData.yaml"}, "is not a folder"),
    ],
)
def test_a_worker_that_could_not_serve_ends_before_anything_is_started(owner, change, said):
    owner.horde.state.add_user(User("other", 9, "o" * 22))
    body = {"name": "taken", "bridge_agent": "test:1:x", "models": [MODEL], "max_pixels": 4096}
    owner.horde.state.pop("o" * 22, body, base_url=owner.horde.url)
    owner.configure(**change)
    done = owner.command("run", "--cpu")
    assert done.returncode == 1
    assert said in done.stderr
    assert "Starting" not in done.stderr


@pytest.mark.parametrize(("key", "said"), [("0000000000", "anonymous"), ("u" * 22, "knows no account")])
def test_the_key_is_asked_about_before_anything_is_looked_at_or_fetched(owner, key, said):
    """An owner without any model once waited for all downloads, and then read that the key was wrong."""
    owner.configure(api_key=key, comfyui_path="nowhere", models_to_load=["a model that is not here"])
    before = sorted((owner.folder / "models").rglob("*"))
    done = owner.command("run", "--cpu")
    assert done.returncode == 1
    assert said in done.stderr
    assert "nowhere" not in done.stderr
    assert sorted((owner.folder / "models").rglob("*")) == before

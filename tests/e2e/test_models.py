"""Models as their owner meets them: an empty folder that fills while the worker serves, and the commands."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from worker.demo.files import FileServer
from worker.demo.horde.records import Baseline, ImageRequest, ModelFacts, Outcome
from worker.demo.horde.server import serve_in_thread
from worker.demo.horde.state import EmbeddedHorde
from worker.demo.tiny.recipes import build_command, engine_tree, models_folder
from worker.models.download.part_file import PartFile

pytestmark = pytest.mark.e2e

#: The smallest file that passes for a whole model: a header that lists no tensor.
EMPTY_MODEL = (2).to_bytes(8, "little") + b"{}"
FIRST, SECOND = "Tiny SD1.5", "Tiny SD1.5 B"


@dataclass
class Shop:
    """A file server, and lists that name its files."""

    server: FileServer
    owner: Any

    def sell(self, **models: bytes) -> None:
        """Put files on the server and on the owner's lists, by the model's name with _ for a space."""
        lists = self.owner.folder / "lists"
        lists.mkdir(exist_ok=True)
        entries = {}
        for key, content in models.items():
            name, file = key.replace("_", " "), f"{key.lower()}.safetensors"
            self.server.files[f"/{file}"] = content
            entries[name] = {
                "name": name, "baseline": "stable diffusion 1", "type": "ckpt", "nsfw": False, "inpainting": False,
                "size_on_disk_bytes": len(content),
                "config": {
                    "files": [{"path": file, "sha256sum": hashlib.sha256(content).hexdigest()}],
                    "download": [{"file_name": file, "file_path": "", "file_url": f"{self.server.base}/{file}"}],
                },
            }  # fmt: skip
        (lists / "stable_diffusion.json").write_text(json.dumps(entries))
        shutil.rmtree(self.owner.folder / "models", ignore_errors=True)
        self.owner.configure(models_to_load=list(entries), custom_models=[], allow_private_downloads=True)

    def file(self, key: str) -> Path:
        return self.owner.folder / "models" / "compvis" / f"{key.lower()}.safetensors"


@pytest.fixture
def shop(owner_at):
    facts = {name: ModelFacts(Baseline.SD1) for name in (FIRST, SECOND)}
    with FileServer().in_thread() as server, serve_in_thread(EmbeddedHorde(models=facts, seed=1)) as horde:
        yield Shop(server, owner_at(horde))


def ask(owner, model, **params):
    asked = {"width": 64, "height": 64, "steps": 2, "cfg_scale": 5.0, **params}
    return owner.horde.state.enqueue(ImageRequest(prompt="a fox", models=(model,), params=asked, nsfw=False))


def serve_the_first_and_survive(shop, first, second, *, until_killed):
    """The first model is served while the second comes; killed in its middle, the worker's next start finishes it."""
    owner, server = shop.owner, shop.server
    shop.sell(**{"Tiny_SD1.5": first, "Tiny_SD1.5_B": second})
    server.held = {"/tiny_sd1.5_b.safetensors"}
    owner.start()
    requests = [ask(owner, FIRST)]
    owner.done(requests)
    assert owner.outcomes() == {Outcome.OK: 1}
    assert not shop.file("Tiny_SD1.5_B").exists()
    part = PartFile(shop.file("Tiny_SD1.5_B"))
    owner.until(lambda: until_killed(part))
    owner.signal(signal.SIGKILL)
    owner.end()
    arrived = part.load(f"{server.base}/tiny_sd1.5_b.safetensors").done

    server.held.clear()
    server.requests.clear()
    owner.start()
    requests = [ask(owner, SECOND), ask(owner, FIRST)]
    owner.done(requests)
    owner.signal(signal.SIGTERM)
    assert owner.end() == 0, owner.output
    assert owner.outcomes() == {Outcome.OK: 3}
    assert shop.file("Tiny_SD1.5_B").read_bytes() == second
    assert not part.path.exists()
    assert {request["path"] for request in server.requests} == {"/tiny_sd1.5_b.safetensors"}
    return arrived


def test_the_first_model_is_served_while_the_second_comes_and_kill_9_costs_nothing(shop):
    # The note, which is there after the file is, as soon as the disk has it.
    serve_the_first_and_survive(shop, EMPTY_MODEL, EMPTY_MODEL, until_killed=lambda part: part.note.exists())


@pytest.mark.engine
def test_the_same_with_real_models_on_the_real_engine_and_what_had_arrived_is_kept(shop, runtime, quick_python):
    folder = runtime.folder / "tiny"
    command = build_command(quick_python, runtime.comfyui, folder, ["sd15", "sd15_b"])
    subprocess.run(command, check=True)
    files = models_folder(folder) / "compvis"
    shop.owner.config |= {"comfyui_path": str(engine_tree(folder)), "comfyui_python": str(quick_python)}
    first, second = ((files / f"{name}.safetensors").read_bytes() for name in ("tiny_sd15", "tiny_sd15_b"))
    url = f"{shop.server.base}/tiny_sd1.5_b.safetensors"

    def much_has_arrived(part):
        state = part.load(url)
        return state is not None and state.done > len(second) // 2

    arrived = serve_the_first_and_survive(shop, first, second, until_killed=much_has_arrived)
    starts = [int(request["range"].removeprefix("bytes=").split("-")[0]) for request in shop.server.requests]
    assert arrived > len(second) // 2
    assert max(starts) > 0
    # Only what was missing came again: each segment goes on where it stood.
    asked = sum(
        int(end) - start + 1
        for request, start in zip(shop.server.requests, starts, strict=True)
        if (end := request["range"].rpartition("-")[2])
    )
    assert asked <= len(second) - arrived


def test_models_are_fetched_beforehand_checked_and_mended_by_command(shop):
    shop.sell(A=EMPTY_MODEL, B=EMPTY_MODEL)
    done = shop.owner.command("models", "download")
    assert done.returncode == 0, done.stderr
    assert shop.file("A").read_bytes() == EMPTY_MODEL
    assert len(shop.server.requests) == 2
    assert shop.owner.command("models", "verify", "--json").stdout == '{"ok": true, "wrong": {}}\n'

    shop.file("B").write_bytes(EMPTY_MODEL[:8] + b"[]")
    done = shop.owner.command("models", "verify", "--fresh", "--json")
    assert done.returncode == 1
    assert list(json.loads(done.stdout)["wrong"]) == ["B"]
    done = shop.owner.command("models", "download", "-q")
    assert done.returncode == 0, done.stderr
    assert len(shop.server.requests) == 3
    assert shop.file("B").read_bytes() == EMPTY_MODEL


def test_what_can_not_be_had_ends_in_its_name_and_reason_and_the_rest_is_there(shop):
    shop.sell(A=EMPTY_MODEL, B=EMPTY_MODEL)
    shop.server.faults = ["status:404"]
    done = shop.owner.command("models", "download")
    assert done.returncode == 1
    assert "A: a.safetensors" in done.stderr.splitlines()[-1]
    assert "404" in done.stderr.splitlines()[-1]
    assert shop.file("B").exists()


def test_loras_that_were_not_fetched_for_jobs_are_deleted_on_request_only(shop):
    shop.sell(A=EMPTY_MODEL)
    own, fetched = (shop.owner.folder / "models" / "lora" / name for name in ("own.safetensors", "old_1.safetensors"))
    own.parent.mkdir(parents=True)
    for lora in (own, fetched):
        lora.write_bytes(EMPTY_MODEL)
    shop.owner.command("models", "download")
    assert own.exists()
    shop.owner.command("models", "download", "--purge-unused-loras")
    assert not own.exists()
    assert fetched.exists()


def test_custom_models_are_written_down_as_the_former_worker_does(shop):
    shop.sell(A=EMPTY_MODEL)
    entry = {"name": "Mine", "baseline": "stable_diffusion_1", "filepath": "mine.safetensors"}
    shop.owner.configure(custom_models=[entry])
    shop.owner.command("models", "download")
    written = json.loads((shop.owner.folder / "custom_models.json").read_text())
    assert written["Mine"]["config"] == {"files": [{"path": "mine.safetensors"}]}


def test_the_list_tells_sizes_and_what_is_lacking(shop):
    shop.sell(A=EMPTY_MODEL, B=EMPTY_MODEL)
    shop.owner.configure(models_to_load=["A"])
    [row] = json.loads(shop.owner.command("models", "list", "--json").stdout)
    assert (row["name"], row["bytes"]) == ("A", len(EMPTY_MODEL))
    assert "does not exist" in row["lacks"][0]
    assert len(json.loads(shop.owner.command("models", "list", "--all", "--json").stdout)) == 2
    assert "does not exist" in shop.owner.command("models", "list").stdout.replace("\n", " ")


def test_a_choice_is_explained_from_a_folder_without_network_or_settings(owner, model_lists):
    owner.folder.joinpath("bridgeData.yaml").unlink(missing_ok=True)
    command = ("models", "resolve", "--offline", "--reference", str(model_lists))
    told = json.loads(owner.command(*command, "--json", "ALL INPAINTING", "SDXL 1.0").stdout)
    assert len(told["load"]) == 3
    assert told["why"]["SDXL 1.0"] == "named in models_to_load"
    assert set(told["why"]) == set(told["load"])
    done = owner.command(*command, "Delibrate")
    assert "Did you mean 'Deliberate'" in done.stderr


def test_without_any_list_the_remedy_is_named(owner):
    owner.folder.joinpath("bridgeData.yaml").unlink(missing_ok=True)
    done = owner.command("models", "resolve", "--offline", "ALL")
    assert done.returncode == 1
    assert "--reference" in done.stderr.splitlines()[-1]


def test_a_model_of_no_list_can_not_be_verified(shop):
    shop.sell(A=EMPTY_MODEL)
    done = shop.owner.command("models", "verify", "Z")
    assert done.returncode == 1
    assert "'Z'" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_model_added_to_the_settings_is_fetched_and_served_without_a_restart(shop):
    owner = shop.owner
    shop.sell(**{"Tiny_SD1.5": EMPTY_MODEL, "Tiny_SD1.5_B": EMPTY_MODEL})
    owner.configure(models_to_load=[FIRST])
    owner.start()
    owner.done([ask(owner, FIRST)])
    assert not shop.file("Tiny_SD1.5_B").exists()
    owner.configure(models_to_load=[FIRST, SECOND])
    owner.signal(signal.SIGHUP)
    owner.done([ask(owner, SECOND)])
    owner.signal(signal.SIGTERM)
    assert owner.end() == 0, owner.output
    assert owner.outcomes() == {Outcome.OK: 2}

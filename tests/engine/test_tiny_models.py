"""Every tiny model renders on the real engine, and what a picture depends on in earnest it depends on here."""

import io
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from worker.demo.tiny.recipes import (
    FLUX_CLIP_L,
    FLUX_T5,
    FLUX_VAE,
    TINY_FILES,
    TINY_LORAS,
    TINY_MODELS,
    Purpose,
    TinyModel,
    build_command,
    engine_tree,
    models_folder,
)

pytestmark = pytest.mark.engine

Graph = dict[str, dict[str, Any]]
Pixels = np.ndarray

#: How long ComfyUI may take to answer for the first time, and one picture to come.
START_S = 120
PICTURE_S = 300

#: Two pictures differ when a channel of a pixel differs by this much on average, of 255.
VISIBLE = 3.0

RENDERED = [model for model in TINY_MODELS if not model.inpainting]
LORA_OF = {addition.baseline: addition.file.file_name for addition in TINY_LORAS}


class Engine:
    """A ComfyUI of these tests' own."""

    def __init__(self, base: Path, tiny, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (base / "custom_nodes").mkdir(parents=True)
        folders = {
            "base_path": str(tiny.models),
            "checkpoints": "compvis",
            "diffusion_models": "compvis",
            "text_encoders": "text_encoders",
            "vae": "vae",
            "loras": "lora",
        }
        paths = base / "paths.yaml"
        paths.write_text(json.dumps({"tiny": folders}))  # YAML is a superset of JSON
        options = [
            "--cpu",
            "--listen",
            "127.0.0.1",
            "--port",
            str(port),
            "--disable-auto-launch",
            "--disable-api-nodes",
        ]
        options += ["--base-directory", str(base), "--extra-model-paths-config", str(paths)]
        self._log = log.open("wb")
        self.log = log
        self.process = subprocess.Popen(
            [str(tiny.python), str(tiny.comfyui / "main.py"), *options], stdout=self._log, stderr=self._log
        )
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            assert self.process.poll() is None, self.log.read_text()
            try:
                self._http.get("/system_stats")
                return
            except httpx.TransportError:
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.2)

    def render(self, graph: Graph) -> list[Pixels]:
        answer = self._http.post("/prompt", json={"prompt": graph})
        assert answer.status_code == 200, answer.text
        prompt_id = answer.json()["prompt_id"]
        deadline = time.monotonic() + PICTURE_S
        while not (history := self._http.get(f"/history/{prompt_id}").json()):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        result = history[prompt_id]
        assert result["status"]["status_str"] == "success", result["status"]
        images = [image for output in result["outputs"].values() for image in output.get("images", [])]
        return [self._fetch(image) for image in images]

    def _fetch(self, image: dict[str, str]) -> Pixels:
        answer = self._http.get("/view", params=image).raise_for_status()
        return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"), dtype=np.float32)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
        self._http.close()
        self._log.close()


@pytest.fixture(scope="module")
def engine(tiny, tmp_path_factory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("engine")
    started = Engine(folder / "base", tiny, folder / "log")
    try:
        started.wait_until_ready()
        yield started
    finally:
        started.end()


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def loaders(model: TinyModel) -> tuple[Graph, list, list, list]:
    """Nodes that load the model; where MODEL, CLIP and VAE come out."""
    first = model.files[0]
    if first.purpose is Purpose.CHECKPOINT:
        return (
            {"load": node("CheckpointLoaderSimple", ckpt_name=first.file_name)},
            ["load", 0],
            ["load", 1],
            ["load", 2],
        )
    graph = {
        "unet": node("UNETLoader", unet_name=first.file_name, weight_dtype="default"),
        "clip": node("DualCLIPLoader", clip_name1=FLUX_CLIP_L.file_name, clip_name2=FLUX_T5.file_name, type="flux"),
        "vae": node("VAELoader", vae_name=FLUX_VAE.file_name),
    }
    return graph, ["unet", 0], ["clip", 0], ["vae", 0]


def text_to_image(
    model: TinyModel, *, prompt="a fox", seed=1, lora: tuple[float, float] | None = None, clip_skip=1, batch=1
) -> Graph:
    graph, unet, clip, vae = loaders(model)
    if lora:
        name, (model_strength, clip_strength) = LORA_OF[model.baseline], lora
        graph["lora"] = node(
            "LoraLoader",
            model=unet,
            clip=clip,
            lora_name=name,
            strength_model=model_strength,
            strength_clip=clip_strength,
        )
        unet, clip = ["lora", 0], ["lora", 1]
    if clip_skip > 1:
        graph["skip"] = node("CLIPSetLastLayer", clip=clip, stop_at_clip_layer=-clip_skip)
        clip = ["skip", 0]
    flux = model.baseline == "flux_1"
    return {
        **graph,
        "prompt": node("CLIPTextEncode", text=prompt, clip=clip),
        "negative": node("CLIPTextEncode", text="", clip=clip),
        "latent": node("EmptyLatentImage", width=64, height=64, batch_size=batch),
        "sample": node(
            "KSampler",
            model=unet,
            seed=seed,
            steps=2 if flux else 4,
            cfg=1.0 if flux else 7.0,
            sampler_name="euler",
            scheduler="normal",
            positive=["prompt", 0],
            negative=["negative", 0],
            latent_image=["latent", 0],
            denoise=1.0,
        ),
        "decode": node("VAEDecode", samples=["sample", 0], vae=vae),
        "out": node("PreviewImage", images=["decode", 0]),
    }


def difference(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one - other).mean())


@pytest.mark.parametrize("model", RENDERED, ids=lambda model: model.name)
def test_a_tiny_model_draws_a_picture_that_depends_on_seed_prompt_and_lora(engine, model) -> None:
    (picture,) = engine.render(text_to_image(model))
    assert picture.shape == (64, 64, 3)
    assert picture.std() > 8
    others = {
        "seed": text_to_image(model, seed=2),
        "prompt": text_to_image(model, prompt="a house by the sea"),
        "LoRA of the diffusion model": text_to_image(model, lora=(1.0, 0.0)),
        "LoRA of the text encoder": text_to_image(model, lora=(0.0, 1.0)),
    }
    for what, graph in others.items():
        (other,) = engine.render(graph)
        assert difference(picture, other) > VISIBLE, f"the {what} makes no difference"
    assert "NOT LOADED" not in engine.log.read_text()
    assert "lora key not loaded" not in engine.log.read_text()


@pytest.mark.parametrize("name", ["Tiny SD1.5", "Tiny SDXL", "Tiny SD2 768"])
def test_clip_skip_matters(engine, name) -> None:
    model = next(model for model in TINY_MODELS if model.name == name)
    pictures = [engine.render(text_to_image(model, clip_skip=layers))[0] for layers in (1, 2, 3)]
    assert difference(pictures[0], pictures[1]) > VISIBLE
    assert difference(pictures[1], pictures[2]) > VISIBLE


def test_the_same_job_gives_the_same_pixels_after_other_models(engine) -> None:
    first, other = (text_to_image(model, seed=7, batch=2) for model in TINY_MODELS[:2])
    before = engine.render(first)
    assert difference(before[0], before[1]) > VISIBLE
    assert difference(before[0], engine.render(other)[0]) > VISIBLE
    # A prompt asked for again comes from the cache; a LoRA of no strength makes it another prompt of the same sense.
    again = engine.render(text_to_image(TINY_MODELS[0], seed=7, batch=2, lora=(0.0, 0.0)))
    assert all(np.array_equal(one, two) for one, two in zip(before, again, strict=True))


def test_a_source_picture_survives_little_noise_and_not_much_of_it(engine, tmp_path) -> None:
    source = Image.new("RGB", (64, 64), (200, 40, 40))
    source.paste((30, 60, 210), (32, 0, 64, 64))
    data = io.BytesIO()
    source.save(data, "PNG")
    engine._http.post("/upload/image", files={"image": ("source.png", data.getvalue())}).raise_for_status()
    distance = {}
    for denoise in (0.1, 0.9):
        graph = text_to_image(TINY_MODELS[0])
        graph["image"] = node("LoadImage", image="source.png")
        graph["latent"] = node("VAEEncode", pixels=["image", 0], vae=["load", 2])
        graph["sample"]["inputs"]["denoise"] = denoise
        (picture,) = engine.render(graph)
        distance[denoise] = difference(np.asarray(source, dtype=np.float32), picture)
    assert distance[0.1] < 30
    assert distance[0.9] > 1.5 * distance[0.1]


def test_a_whole_file_is_kept_and_a_broken_one_made_again(tiny, tmp_path) -> None:
    command = build_command(tiny.python, tiny.comfyui, tmp_path, ["flux_vae"])
    path = models_folder(tmp_path) / TINY_FILES["flux_vae"].path

    def build() -> dict[str, Any]:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        return json.loads(done.stdout)

    report = build()
    content = path.read_bytes()
    assert report["name"] == "flux_vae"
    assert report["path"] == str(path)
    assert report["bytes"] == len(content)
    made = path.stat().st_mtime_ns
    build()
    assert path.stat().st_mtime_ns == made
    path.write_bytes(content[:1000])
    build()
    assert path.read_bytes() == content


def test_an_unknown_name_is_refused_with_the_known_ones(tiny, tmp_path) -> None:
    command = build_command(tiny.python, tiny.comfyui, tmp_path, ["sd14"])
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "sd14" in done.stderr
    assert "sd15" in done.stderr


def test_the_engine_tree_is_a_copy_with_small_text_encoders(tiny) -> None:
    config = json.loads((tiny.comfyui / "comfy" / "sd1_clip_config.json").read_text())
    assert config["num_hidden_layers"] == 3
    assert config["hidden_size"] == 768
    assert tiny.comfyui == engine_tree(tiny.models.parent)

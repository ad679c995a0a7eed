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
    TINY_EMBEDDINGS,
    TINY_FILES,
    TINY_LORAS,
    TINY_MODELS,
    TINY_UPSCALERS,
    Purpose,
    TinyModel,
)

from .studio import DEVICE_ARGUMENTS

pytestmark = pytest.mark.engine

Graph = dict[str, dict[str, Any]]
Pixels = np.ndarray

#: How long ComfyUI may take to answer for the first time, and one picture to come.
START_S = 120
PICTURE_S = 300

#: Two pictures differ when a channel of a pixel differs by this much on average, of 255.
VISIBLE = 3.0

MODELS = {model.name: model for model in TINY_MODELS}
#: Those an ordinary sampler draws with; Stable Cascade has a graph of its own.
RENDERED = [model for model in TINY_MODELS if model.baseline != "stable_cascade"]
LORA_OF = {addition.baseline: addition.file.file_name for addition in TINY_LORAS}
#: What loads the text encoder of a model in several files: class, `type`.
CLIP_LOADERS = {
    "flux_1": ("DualCLIPLoader", "flux"),
    "qwen_image": ("CLIPLoader", "qwen_image"),
    "z_image_turbo": ("CLIPLoader", "lumina2"),
}


class Engine:
    """A ComfyUI of these tests' own."""

    def __init__(self, base: Path, tiny, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (base / "custom_nodes").mkdir(parents=True)
        # An empty front end: the environment has no package of ComfyUI's own page.
        (base / "web").mkdir()
        folders = {
            "base_path": str(tiny.models),
            "checkpoints": "compvis",
            "diffusion_models": "compvis",
            "text_encoders": "text_encoders",
            "vae": "vae",
            "loras": "lora",
            "embeddings": "ti",
            "controlnet": "controlnet",
            "upscale_models": "esrgan",
        }
        paths = base / "paths.yaml"
        paths.write_text(json.dumps({"tiny": folders}))  # YAML is a superset of JSON
        options = [
            *DEVICE_ARGUMENTS,
            "--listen",
            "127.0.0.1",
            "--port",
            str(port),
            "--disable-auto-launch",
            "--disable-api-nodes",
        ]
        options += ["--base-directory", str(base), "--front-end-root", str(base / "web")]
        options += ["--extra-model-paths-config", str(paths)]
        self._log = log.open("wb")
        self.log = log
        self._read = 0
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

    def complaints(self, *phrases: str) -> list[str]:
        """What the engine has said with one of the phrases since the last call."""
        with self.log.open() as file:
            file.seek(self._read)
            lines = file.readlines()
            self._read = file.tell()
        return [line for line in lines if any(phrase in line for phrase in phrases)]

    def upload(self, image: Image.Image) -> str:
        """The name under which LoadImage finds the picture."""
        data = io.BytesIO()
        image.save(data, "PNG")
        files = {"image": ("source.png", data.getvalue())}
        return self._http.post("/upload/image", files=files).raise_for_status().json()["name"]

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
    files = {purpose: [file.file_name for file in model.files if file.purpose is purpose] for purpose in Purpose}
    if files[Purpose.CHECKPOINT]:
        (name,) = files[Purpose.CHECKPOINT]
        return {"load": node("CheckpointLoaderSimple", ckpt_name=name)}, ["load", 0], ["load", 1], ["load", 2]
    class_type, kind = CLIP_LOADERS[model.baseline]
    names = files[Purpose.TEXT_ENCODERS]
    inputs = {"clip_name": names[0]} if len(names) == 1 else {"clip_name1": names[0], "clip_name2": names[1]}
    graph = {
        "unet": node("UNETLoader", unet_name=files[Purpose.UNET][0], weight_dtype="default"),
        "clip": node(class_type, type=kind, **inputs),
        "vae": node("VAELoader", vae_name=files[Purpose.VAE][0]),
    }
    return graph, ["unet", 0], ["clip", 0], ["vae", 0]


def text_to_image(
    model: TinyModel, *, prompt="a fox", seed=1, lora: tuple[float, float] | None = None, clip_skip=0, batch=1
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
    if clip_skip:
        graph["skip"] = node("CLIPSetLastLayer", clip=clip, stop_at_clip_layer=-clip_skip)
        clip = ["skip", 0]
    distilled = model.baseline in CLIP_LOADERS
    return {
        **graph,
        "prompt": node("CLIPTextEncode", text=prompt, clip=clip),
        "negative": node("CLIPTextEncode", text="", clip=clip),
        "latent": node(
            "EmptySD3LatentImage" if distilled else "EmptyLatentImage", width=64, height=64, batch_size=batch
        ),
        "sample": node(
            "KSampler",
            model=unet,
            seed=seed,
            steps=4,
            cfg=1.0 if distilled else 7.0,
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
    others: dict[str, dict[str, Any]] = {"seed": {"seed": 2}, "prompt": {"prompt": "a house by the sea"}}
    if model.baseline in LORA_OF:
        others |= {
            "LoRA of the diffusion model": {"lora": (1.0, 0.0)},
            "LoRA of the text encoder": {"lora": (0.0, 1.0)},
        }
    for what, change in others.items():
        (other,) = engine.render(text_to_image(model, **change))
        assert difference(picture, other) > VISIBLE, f"the {what} makes no difference"
    assert engine.complaints("NOT LOADED", "lora key not loaded", "clip missing") == []


def cascade(*, prompt="a fox", seed=1, source: str | None = None, remix=False) -> Graph:
    stage_b, stage_c = (file.file_name for file in MODELS["Tiny Stable Cascade"].files)
    sampler = {"sampler_name": "euler", "scheduler": "simple", "seed": seed}
    graph = {
        "c": node("unCLIPCheckpointLoader", ckpt_name=stage_c),
        "b": node("CheckpointLoaderSimple", ckpt_name=stage_b),
        "prompt": node("CLIPTextEncode", text=prompt, clip=["c", 1]),
        "negative": node("CLIPTextEncode", text="", clip=["c", 1]),
        "latent": node("StableCascade_EmptyLatentImage", width=256, height=256, compression=42, batch_size=1),
        "sample_c": node(
            "KSampler",
            model=["c", 0],
            steps=3,
            cfg=4.0,
            positive=["prompt", 0],
            negative=["negative", 0],
            latent_image=["latent", 0],
            denoise=0.6 if source and not remix else 1.0,
            **sampler,
        ),
        "nothing": node("ConditioningZeroOut", conditioning=["prompt", 0]),
        "prior": node("StableCascade_StageB_Conditioning", conditioning=["nothing", 0], stage_c=["sample_c", 0]),
        "sample_b": node(
            "KSampler",
            model=["b", 0],
            steps=2,
            cfg=1.0,
            positive=["prior", 0],
            negative=["nothing", 0],
            latent_image=["latent", 1],
            denoise=1.0,
            **sampler,
        ),
        "decode": node("VAEDecode", samples=["sample_b", 0], vae=["b", 2]),
        "out": node("PreviewImage", images=["decode", 0]),
    }
    if source:
        graph["image"] = node("LoadImage", image=source)
    if source and remix:
        graph["seen"] = node("CLIPVisionEncode", clip_vision=["c", 3], image=["image", 0], crop="center")
        graph["remix"] = node(
            "unCLIPConditioning",
            conditioning=["prompt", 0],
            clip_vision_output=["seen", 0],
            strength=1.0,
            noise_augmentation=0.0,
        )
        graph["sample_c"]["inputs"]["positive"] = ["remix", 0]
    elif source:
        graph["latent"] = node("StableCascade_StageC_VAEEncode", image=["image", 0], vae=["c", 2], compression=42)
    return graph


def test_tiny_stable_cascade_draws_from_prompt_seed_and_pictures(engine) -> None:
    (picture,) = engine.render(cascade())
    assert picture.shape == (256, 256, 3)
    assert picture.std() > 8
    assert difference(picture, engine.render(cascade(seed=2))[0]) > VISIBLE
    assert difference(picture, engine.render(cascade(prompt="a house by the sea"))[0]) > VISIBLE
    names = [engine.upload(two_colours(256, *colours)) for colours in (("red", "blue"), ("lime", "purple"))]
    for remix in (False, True):
        one, other = (engine.render(cascade(source=name, remix=remix))[0] for name in names)
        assert difference(one, other) > VISIBLE, "remix" if remix else "image to image"


@pytest.mark.parametrize("name", ["Tiny SD1.5", "Tiny SDXL", "Tiny SD2 768"])
def test_clip_skip_matters(engine, name) -> None:
    pictures = [engine.render(text_to_image(MODELS[name], clip_skip=layers))[0] for layers in (1, 2, 3)]
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


def two_colours(side: int, left: str, right: str) -> Image.Image:
    picture = Image.new("RGB", (side, side), left)
    picture.paste(right, (side // 2, 0, side, side))
    return picture


def test_a_source_picture_survives_little_noise_and_not_much_of_it(engine) -> None:
    source = two_colours(64, "brown", "navy")
    name = engine.upload(source)
    distance = {}
    for denoise in (0.1, 0.9):
        graph = text_to_image(MODELS["Tiny SD1.5"])
        graph["image"] = node("LoadImage", image=name)
        graph["latent"] = node("VAEEncode", pixels=["image", 0], vae=["load", 2])
        graph["sample"]["inputs"]["denoise"] = denoise
        (picture,) = engine.render(graph)
        distance[denoise] = difference(np.asarray(source, dtype=np.float32), picture)
    assert distance[0.1] < 40
    assert distance[0.9] > 1.5 * distance[0.1]


@pytest.mark.parametrize("name", ["Tiny SD1.5 Inpainting", "Tiny SD1.5"])
def test_what_a_mask_leaves_out_is_kept(engine, name) -> None:
    source = Image.new("RGBA", (64, 64), "brown")
    source.paste((0, 0, 0, 0), (32, 0, 64, 64))
    graph = text_to_image(MODELS[name])
    graph["image"] = node("LoadImage", image=engine.upload(source))
    graph["inpaint"] = node(
        "InpaintModelConditioning",
        positive=["prompt", 0],
        negative=["negative", 0],
        vae=["load", 2],
        pixels=["image", 0],
        mask=["image", 1],
        noise_mask=True,
    )
    for output, target in enumerate(("positive", "negative", "latent_image")):
        graph["sample"]["inputs"][target] = ["inpaint", output]
    (picture,) = engine.render(graph)
    brown = np.asarray(source.convert("RGB").getpixel((0, 0)), dtype=np.float32)
    assert difference(picture[:, :24], brown) < 25
    assert difference(picture[:, 40:], brown) > 50


@pytest.mark.parametrize(
    ("model", "control"),
    [
        ("Tiny SD1.5", "control_canny"),
        ("Tiny SD1.5", "control_openpose"),
        ("Tiny SD1.5", "control_qr"),
        ("Tiny SD2 512", "control_canny_sd2"),
        ("Tiny SDXL", "control_qr_sdxl"),
    ],
)
def test_a_controlnet_draws_after_its_picture(engine, model, control) -> None:
    def controlled(name: str, strength: float) -> Pixels:
        graph = text_to_image(MODELS[model])
        graph["image"] = node("LoadImage", image=name)
        graph["control"] = node(
            "DiffControlNetLoader", model=["load", 0], control_net_name=TINY_FILES[control].file_name
        )
        graph["apply"] = node(
            "ControlNetApplyAdvanced",
            positive=["prompt", 0],
            negative=["negative", 0],
            control_net=["control", 0],
            image=["image", 0],
            strength=strength,
            start_percent=0.0,
            end_percent=1.0,
        )
        graph["sample"]["inputs"] |= {"positive": ["apply", 0], "negative": ["apply", 1]}
        return engine.render(graph)[0]

    one, other = (engine.upload(two_colours(64, *colours)) for colours in (("black", "white"), ("white", "black")))
    assert difference(controlled(one, 1.0), controlled(other, 1.0)) > VISIBLE
    assert difference(controlled(one, 1.0), controlled(one, 0.3)) > VISIBLE
    assert engine.complaints("missing controlnet keys", "control could not be applied") == []


@pytest.mark.parametrize("embedding", TINY_EMBEDDINGS, ids=lambda embedding: embedding.name)
def test_a_textual_inversion_stands_for_words(engine, embedding) -> None:
    model = next(model for model in TINY_MODELS if model.baseline == embedding.baseline)
    (without,) = engine.render(text_to_image(model, prompt="a fox"))
    (with_it,) = engine.render(text_to_image(model, prompt=f"embedding:{embedding.version_id} a fox"))
    assert difference(without, with_it) > VISIBLE
    assert engine.complaints("does not exist, ignoring") == []


@pytest.mark.parametrize("upscaler", TINY_UPSCALERS, ids=lambda file: file.name)
def test_an_upscaler_enlarges_the_picture_it_gets(engine, upscaler) -> None:
    source = two_colours(64, "brown", "navy")
    graph = {
        "image": node("LoadImage", image=engine.upload(source)),
        "model": node("UpscaleModelLoader", model_name=upscaler.file_name),
        "enlarge": node("ImageUpscaleWithModel", upscale_model=["model", 0], image=["image", 0]),
        "out": node("PreviewImage", images=["enlarge", 0]),
    }
    (picture,) = engine.render(graph)
    side = 128 if "x2" in upscaler.name or "2x" in upscaler.name else 256
    assert picture.shape == (side, side, 3)
    enlarged = np.asarray(source.resize((side, side), Image.Resampling.NEAREST), dtype=np.float32)
    assert difference(picture, enlarged) < 10

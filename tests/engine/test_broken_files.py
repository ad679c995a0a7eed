"""What the real ComfyUI says of files that can't be used, and whose failure that makes it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from worker.engine.client import EngineClient
from worker.engine.pool import EnginePool
from worker.engine.process import EngineProcess, EngineSettings
from worker.engine.render_task import Rendering, RenderTask
from worker.errors import (
    Addition,
    AdditionBroken,
    AdditionKind,
    AdditionMismatch,
    EngineError,
    ImageNotFinite,
    ModelBroken,
    ModelHoldsCode,
    ModelIncomplete,
    PayloadFailed,
)
from worker.models.disk.store import Store

from .forks import Forks
from .studio import DEVICE_ARGUMENTS

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

GOOD = "tiny_sd15.safetensors"
#: Run by the engine's Python: ROOT for the files, the good checkpoint.
MAKE = """
import json, os, struct, sys
from pathlib import Path
import torch
from safetensors import safe_open
from safetensors.torch import save_file

root, good = Path(sys.argv[1]), sys.argv[2]
for name in ("checkpoints", "loras", "embeddings", "controlnet", "upscale_models", "vae"):
    (root / name).mkdir(parents=True)

class Code:
    def __reduce__(self):
        return os.system, ("true",)

def raw(path, header, body=b""):
    (root / path).write_bytes(struct.pack("<Q", len(header)) + header + body)

with safe_open(good, "pt") as whole:
    tensors = {name: whole.get_tensor(name) for name in whole.keys()}
def without(prefix):
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}
save_file(without("first_stage_model."), root / "checkpoints/no_vae.safetensors")
save_file(without("cond_stage_model."), root / "checkpoints/no_text.safetensors")
nan = {name: torch.full_like(t, float("nan")) if name.startswith("model.diffusion_model.out.2") else t
       for name, t in tensors.items()}
save_file(nan, root / "checkpoints/nan.safetensors")
torch.save({"state_dict": {"x": Code()}}, root / "checkpoints/code.ckpt")
(root / "checkpoints/page.safetensors").write_bytes(b"<!DOCTYPE html><html>login</html>")
(root / "checkpoints/empty.safetensors").write_bytes(b"")
save_file({"x": torch.zeros(2)}, root / "checkpoints/other.safetensors")
odd = {"a": {"dtype": "NOPE", "shape": [4], "data_offsets": [0, 16]}}
raw("loras/dtype.safetensors", json.dumps(odd).encode(), bytes(16))
raw("loras/deep.safetensors", b'{"a":' + b"[" * 100000 + b"]" * 100000 + b"}")
(root / "loras/page.safetensors").write_bytes(b"<html>")
(root / "loras/empty.safetensors").write_bytes(b"")
torch.save({"x": Code()}, root / "loras/code.pt")
torch.save([1, 2], root / "loras/list.pt")
q, side = next((name.removeprefix("model.").removesuffix(".weight"), t.shape[0]) for name, t in tensors.items()
               if name.startswith("model.diffusion_model.") and name.endswith("attn1.to_q.weight"))
def change(name, **parts):
    named = {f"{q}.{part.replace('__', '.')}": tensor for part, tensor in parts.items()}
    save_file(named, root / f"loras/{name}.safetensors")
change("zero", lora_up__weight=torch.zeros(side, 2), lora_down__weight=torch.rand(2, side), alpha=torch.tensor(2.0))
change("lokr_sizes", lokr_w1=torch.rand(3, 3), lokr_w2=torch.rand(5, 5), alpha=torch.tensor(1.0))
change("lokr_half", lokr_w1=torch.rand(4, 4))
change("oft_sizes", oft_blocks=torch.rand(2, 3, 3), alpha=torch.tensor(1.0))
change("diff_sizes", diff=torch.rand(3, 3))
change("oft", oft_blocks=torch.rand(2, side // 2, side // 2), alpha=torch.tensor(1.0))
change("lokr", lokr_w1=torch.rand(2, 2), lokr_w2=torch.rand(side // 2, side // 2))
change("float8", lora_up__weight=torch.rand(side, 2).to(torch.float8_e4m3fn),
       lora_down__weight=torch.rand(2, side).to(torch.float8_e4m3fn))
change("dora", lora_up__weight=torch.zeros(side, 2), lora_down__weight=torch.rand(2, side),
       dora_scale=torch.rand(side, 1))
up, down = torch.rand(side, 2), torch.rand(2, side)
change("no_scale", lora_up__weight=up, lora_down__weight=down, alpha=torch.tensor(0.0))
change("no_number", lora_up__weight=up, lora_down__weight=down, alpha=torch.tensor(float("nan")))
change("nan", lora_up__weight=up * float("nan"), lora_down__weight=down)
change("grown", lora_up__weight=torch.rand(90000, 1), lora_down__weight=torch.rand(1, 90000),
       reshape_weight=torch.tensor([90000, 90000]))
other = {f"{q[:-1]}v.lora_up.weight": torch.rand(90000, 1), f"{q[:-1]}v.lora_down.weight": torch.rand(1, 90000)}
save_file({f"{q}.lora_up.weight": up, f"{q}.lora_down.weight": down, **other}, root / "loras/in_part.safetensors")
save_file({"emb_params": torch.rand(2, 768) * float("nan")}, root / "embeddings/nan.safetensors")
(root / "embeddings/picture.pt").write_bytes(b"\\x89PNG")
save_file({"emb_params": torch.rand(2, 1024)}, root / "embeddings/wide.safetensors")
save_file({"emb_params": torch.rand(768)}, root / "embeddings/single.safetensors")
save_file({}, root / "embeddings/nothing.safetensors")
torch.save({"string_to_param": Code()}, root / "embeddings/code.pt")
(root / "controlnet/page.pth").write_bytes(b"<html>")
(root / "upscale_models/page.pth").write_bytes(b"<html>")
save_file({"x": torch.zeros(2)}, root / "upscale_models/other.safetensors")
print("null")
"""


@pytest.fixture(scope="module")
def base(tiny: Any, in_engine: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine's folder with the broken files."""
    folder = tmp_path_factory.mktemp("broken")
    good = next(tiny.models.rglob(GOOD))
    in_engine.run(MAKE, folder / "models", good)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tiny: Any, base: Path) -> AsyncIterator[EngineClient]:
    """An engine that finds the broken files beside the tiny models."""
    process = EngineProcess(
        EngineSettings(
            python=tiny.python,
            comfyui=tiny.comfyui,
            base_directory=base,
            log_file=base / "engine.log",
            model_paths=Store(tiny.models).model_paths(),
            arguments=DEVICE_ARGUMENTS,
        )
    )
    await process.start()
    client = EngineClient(process.url, process.token)
    try:
        await client.open()
        yield client
    finally:
        client.expect_end()
        await process.stop()
        await client.close()


def graph(checkpoint: str = GOOD, *, text: str = "a fox", lora: str = "", **nodes: Any) -> dict[str, Any]:
    model, clip = ["checkpoint", 0], ["checkpoint", 1]
    made: dict[str, Any] = {"checkpoint": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}}}
    if lora:
        strengths = {"strength_model": 1.0, "strength_clip": 1.0}
        inputs = {"model": model, "clip": clip, "lora_name": lora, **strengths}
        made["lora"] = {"class_type": "LoraLoader", "inputs": inputs}
        model, clip = ["lora", 0], ["lora", 1]
    sampling = {"seed": 1, "steps": 1, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    links = {"model": model, "positive": ["yes", 0], "negative": ["no", 0], "latent_image": ["latent", 0]}
    return made | {
        "yes": {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": clip}},
        "no": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": clip}},
        "latent": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "sampler": {"class_type": "KSampler", "inputs": {**sampling, **links}},
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sampler", 0], "vae": ["checkpoint", 2]}},
        "out": {"class_type": "HordeImageOutput", "inputs": {"images": ["decode", 0]}},
        **nodes,
    }


async def failure(client: EngineClient, graph: dict[str, Any]) -> EngineError:
    with pytest.raises(EngineError) as caught:
        await client.render(graph, ("out",))
    return caught.value


@pytest.mark.parametrize(
    ("checkpoint", "kind", "says"),
    [
        ("no_vae.safetensors", ModelIncomplete, "holds no VAE"),
        ("no_text.safetensors", ModelIncomplete, "holds no text encoder"),
        ("code.ckpt", ModelHoldsCode, "holds program code"),
        ("page.safetensors", ModelBroken, "can't be read"),
        ("empty.safetensors", ModelBroken, "can't be read"),
        ("other.safetensors", ModelBroken, "no model that ComfyUI knows"),
    ],
)
async def test_a_checkpoint_that_can_not_be_used_is_named(
    client: EngineClient, checkpoint: str, kind: type[EngineError], says: str
) -> None:
    error = await failure(client, graph(checkpoint))
    assert type(error) is kind
    assert isinstance(error, ModelBroken)
    assert error.file == checkpoint
    assert says in error.message
    assert "weights_only" not in str(error)


@pytest.mark.parametrize(
    "lora", ["dtype.safetensors", "deep.safetensors", "page.safetensors", "empty.safetensors", "code.pt", "list.pt"]
)
async def test_a_lora_that_can_not_be_used_is_named(client: EngineClient, lora: str) -> None:
    error = await failure(client, graph(lora=lora))
    assert isinstance(error, AdditionBroken)
    assert error.additions == {Addition(AdditionKind.LORA, lora)}


@pytest.mark.parametrize("name", ["nothing", "code", "nan", "picture"])
async def test_a_textual_inversion_that_can_not_be_used_is_named(client: EngineClient, name: str) -> None:
    error = await failure(client, graph(text=f"a fox, (embedding:{name}:1.1)"))
    assert isinstance(error, AdditionBroken)
    assert error.additions == {Addition(AdditionKind.TEXTUAL_INVERSION, name)}


async def test_a_lora_of_another_family_changes_nothing_and_is_told(client: EngineClient) -> None:
    error = await failure(client, graph(lora="tiny_z_image_700001.safetensors"))
    assert type(error) is AdditionMismatch
    assert "another family" in error.message
    assert len(await client.render(graph(lora="tiny_sd15_150001.safetensors"), ("out",))) == 1


@pytest.mark.parametrize(
    ("lora", "is_mismatch"),
    [
        *((name, False) for name in ("zero", "no_scale", "no_number", "nan", "grown", "lokr_half")),
        *((name, True) for name in ("lokr_sizes", "oft_sizes", "diff_sizes")),
    ],
)
async def test_a_lora_of_which_no_change_can_be_made_is_told(
    client: EngineClient, lora: str, *, is_mismatch: bool
) -> None:
    """ComfyUI logs an error for each weight and renders as if there was no LoRA."""
    error = await failure(client, graph(lora=f"{lora}.safetensors"))
    assert type(error) is (AdditionMismatch if is_mismatch else AdditionBroken)
    assert isinstance(error, AdditionBroken)
    assert error.additions == {Addition(AdditionKind.LORA, f"{lora}.safetensors")}


async def test_loras_of_other_kinds_are_used(client: EngineClient) -> None:
    kinds = ("oft", "lokr", "float8", "dora", "in_part")
    made = [await client.render(graph(lora=f"{name}.safetensors"), ("out",)) for name in kinds]
    plain = await client.render(graph(), ("out",))
    assert len({bytes(images[0].pixels) for images in (plain, *made)}) == 1 + len(kinds)


async def test_a_textual_inversion_of_another_width_is_told_and_those_beside_it_are_not(client: EngineClient) -> None:
    """ComfyUI logs a warning and renders as if it was not named."""
    error = await failure(client, graph(text="a fox, embedding:wide, (embedding:single:1.1)"))
    assert type(error) is AdditionMismatch
    assert error.additions == {Addition(AdditionKind.TEXTUAL_INVERSION, "wide")}
    assert len(await client.render(graph(text="a fox, embedding:single, embedding:absent"), ("out",))) == 1


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "../../etc/passwd", "/etc/passwd", "sub/x", "ünï", "C:\\x"])
async def test_a_name_that_no_textual_inversion_has_is_passed_by(client: EngineClient, name: str) -> None:
    assert len(await client.render(graph(text=f"a fox, embedding:{name}"), ("out",))) == 1


async def test_a_text_that_breaks_the_encoder_is_the_requesters(client: EngineClient) -> None:
    assert type(await failure(client, graph(text="a cat, embedding:"))) is PayloadFailed


@pytest.mark.parametrize(
    ("loader", "name", "file"),
    [
        ("ControlNetLoader", "control_net_name", "page.pth"),
        ("UpscaleModelLoader", "model_name", "page.pth"),
        ("UpscaleModelLoader", "model_name", "other.safetensors"),
    ],
)
async def test_another_file_that_can_not_be_used_is_named(
    client: EngineClient, loader: str, name: str, file: str
) -> None:
    extra: dict[str, Any] = {"extra": {"class_type": loader, "inputs": {name: file}}}
    if loader == "UpscaleModelLoader":
        user = {
            "class_type": "ImageUpscaleWithModel",
            "inputs": {"upscale_model": ["extra", 0], "image": ["decode", 0]},
        }
        extra |= {"user": user, "out": {"class_type": "HordeImageOutput", "inputs": {"images": ["user", 0]}}}
    else:
        inputs = {"conditioning": ["yes", 0], "control_net": ["extra", 0], "image": ["blank", 0], "strength": 1.0}
        size = {"width": 64, "height": 64, "batch_size": 1, "color": 0}
        extra |= {"user": {"class_type": "ControlNetApply", "inputs": inputs}}
        extra |= {"blank": {"class_type": "EmptyImage", "inputs": size}}
        made = graph()
        extra["sampler"] = {
            "class_type": "KSampler",
            "inputs": {**made["sampler"]["inputs"], "positive": ["user", 0]},
        }
    error = await failure(client, graph(**extra))
    assert type(error) is ModelBroken
    assert error.file == file


async def test_a_picture_of_nan_is_an_error_and_not_a_black_picture(client: EngineClient) -> None:
    assert type(await failure(client, graph("nan.safetensors"))) is ImageNotFinite


async def test_a_picture_of_nan_is_told_without_the_node_pack_too(tiny: Any, base: Path, tmp_path: Path) -> None:
    """Twice in one engine: the second time Python would keep its warning to itself."""
    made = graph("nan.safetensors")
    made["out"]["class_type"] = "SaveImageWebsocket"
    broken = {"base_path": str(base), "checkpoints": "models/checkpoints"}
    stock = EngineSettings(
        python=tiny.python,
        comfyui=tiny.comfyui,
        base_directory=tmp_path,
        log_file=tmp_path / "engine.log",
        model_paths={**Store(tiny.models).model_paths(), "broken": broken},
        arguments=DEVICE_ARGUMENTS,
        with_node_pack=False,
    )
    async with EnginePool([stock]).running() as pool:
        task = RenderTask(
            model="nan",
            prepare=lambda _: [Rendering(made, ("out",), 1)],
            pictures={},
            deadline=asyncio.get_running_loop().time() + 600,
        )
        with pytest.raises(ImageNotFinite):
            await pool.render(task)
    # Not by what it says at the end of a prompt: it may be told to end before that is written.
    assert (tmp_path / "engine.log").read_text(encoding="utf-8").count("got prompt") == 2


async def test_after_all_of_this_a_good_job_is_rendered(client: EngineClient) -> None:
    assert len(await client.render(graph(), ("out",))) == 1

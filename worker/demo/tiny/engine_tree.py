"""A copy of the ComfyUI tree whose text encoders are small.

ComfyUI reads the sizes of most text encoders from JSON files beside its code, a few stand in the code as numbers;
everything else about a model it finds out from the file. Real ComfyUI code, then, with smaller numbers, and the
owner's own tree stays as it is. Files are copied, not linked: the code looks for the JSON files beside the real path
of its modules.
"""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

#: Layers of a small CLIP text encoder: enough for clip_skip 1, 2 and 3 to differ.
CLIP_LAYERS = 3

SMALL_CLIP = {"num_hidden_layers": CLIP_LAYERS, "intermediate_size": 256}

#: What changes, by file. Widths that a diffusion model is recognised by stay as they are.
CONFIG_CHANGES: dict[str, dict[str, Any]] = {
    "comfy/sd1_clip_config.json": SMALL_CLIP,
    "comfy/clip_config_bigg.json": SMALL_CLIP,
    "comfy/text_encoders/sd2_clip_config.json": SMALL_CLIP,
    "comfy/text_encoders/t5_config_xxl.json": {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 2},
}

#: The same for sizes that stand in the code: by file and class, the defaults of fields and parameters.
NUMBER_CHANGES: dict[str, dict[str, dict[str, int]]] = {
    "comfy/text_encoders/llama.py": {
        "Qwen3_4BConfig": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
        # Known by its 4 key-value heads of 128.
        "Qwen25_7BVLI_Config": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        },
    },
    "comfy/text_encoders/qwen_vl.py": {"Qwen2VLVisionTransformer": {"intermediate_size": 64, "num_layers": 1}},
    "comfy/ldm/qwen_image/model.py": {"QwenImageTransformer2DModel": {"joint_attention_dim": 64}},
}

#: Not needed to run, or the owner's data.
LEFT_OUT = ("__pycache__", "models", "input", "output", "temp", "user", "tests", "tests-unit", ".git", ".github")

STAMP = ".tiny"


def copy_engine_tree(source: Path, target: Path) -> None:
    """Make `target` a copy of `source` with the small text encoders; what is there and up to date is kept."""
    stamp = _stamp(source)
    if (target / STAMP).is_file() and (target / STAMP).read_text() == stamp:
        return
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial, ignore=lambda folder, names: _left_out(source, Path(folder), names))
    for name, changes in CONFIG_CHANGES.items():
        config = json.loads((source / name).read_text())
        (partial / name).write_text(json.dumps({**config, **changes}, indent=2))
    for name, classes in NUMBER_CHANGES.items():
        code = (source / name).read_text()
        for class_name, numbers in classes.items():
            code = _change_numbers(code, class_name, numbers)
        (partial / name).write_text(code)
    (partial / STAMP).write_text(stamp)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def _change_numbers(code: str, class_name: str, numbers: dict[str, int]) -> str:
    """Raises ValueError when the class has no such number: another ComfyUI than this was written for."""
    start = code.index(f"\nclass {class_name}")
    end = code.find("\nclass ", start + 1) % (len(code) + 1)
    body = code[start:end]
    for field, number in numbers.items():
        body, changed = re.subn(rf"\b{field}: int = \d+", f"{field}: int = {number}", body, count=1)
        if not changed:
            raise ValueError(f"{class_name} has no {field}")
    return code[:start] + body + code[end:]


def _left_out(source: Path, folder: Path, names: list[str]) -> set[str]:
    everywhere = {name for name in names if name == "__pycache__"}
    return everywhere | ({name for name in names if name in LEFT_OUT} if folder == source else set())


def _stamp(source: Path) -> str:
    """Changes when ComfyUI's version, its place, or what we change in it does."""
    version = (source / "comfyui_version.py").read_text()
    return hashlib.sha256(json.dumps([str(source), version, CONFIG_CHANGES, NUMBER_CHANGES, LEFT_OUT]).encode()).hexdigest()

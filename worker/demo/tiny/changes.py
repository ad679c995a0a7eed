"""The numbers that differ between ComfyUI and the copy that loads tiny models, and nothing else.

What a family is recognised by stays: names of tensors, the widths the Stable Diffusion families are told apart by, the
number of layers where that is looked at.
"""

from typing import Any, NamedTuple

#: Layers of a small CLIP text encoder: enough for clip_skip 1, 2 and 3 to differ.
SMALL_CLIP = {"num_hidden_layers": 3, "intermediate_size": 256}

#: What changes in JSON files. A text encoder's width stays where the diffusion model is recognised by it.
CONFIG_CHANGES: dict[str, dict[str, Any]] = {
    "comfy/sd1_clip_config.json": SMALL_CLIP,
    "comfy/clip_config_bigg.json": SMALL_CLIP,
    "comfy/text_encoders/sd2_clip_config.json": SMALL_CLIP,
    "comfy/text_encoders/t5_config_xxl.json": {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 2},
    "comfy/clip_vision_config_vitl.json": {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4},
}

#: The two stages of Stable Cascade, in place of the smallest the engine knows.
SMALL_CASCADE_C = {"c_cond": 128, "c_hidden": [128, 128], "nhead": [2, 2], "blocks": [[1, 1], [1, 1]]}
SMALL_CASCADE_B = {
    "c_hidden": [64, 64, 128, 128],
    "nhead": [-1, 1, 2, 2],
    "blocks": [[1, 1, 1, 1], [1, 1, 1, 1]],
    "block_repeat": [[1, 1, 1, 1], [1, 1, 1, 1]],
}


class Change(NamedTuple):
    """In `file`, the first `old` behind the first `where` becomes `new`. `newer`: older ComfyUI has no such place."""

    file: str
    where: str
    old: str
    new: str
    newer: bool = False


#: Widths of the text that Anima and Krea 2 read, and of how many layers of its encoder Krea 2 reads it. Anima's differs
#: from Z-Image's, by which encoders are told apart; Krea 2 divides its own among 20 heads.
ANIMA_TEXT_WIDTH, KREA2_TEXT_WIDTH, KREA2_TEXT_LAYERS = 96, 80, 2

DETECTION, LLAMA = "comfy/model_detection.py", "comfy/text_encoders/llama.py"
ANIMA = "comfy/ldm/anima/model.py"

CODE_CHANGES = (
    # Flux: 4 heads of 128 instead of 24.
    Change(DETECTION, '= "flux"\n', '"num_heads"] = 24', '"num_heads"] = 4'),
    # Qwen-Image: the same, and a text encoder as narrow as its own is made below.
    Change("comfy/ldm/qwen_image/model.py", "class QwenImageTransformer2DModel", "heads: int = 24", "heads: int = 4"),
    Change("comfy/ldm/qwen_image/model.py", "class QwenImageTransformer2DModel", "dim: int = 3584", "dim: int = 64"),
    # Z-Image: 4 heads of 128 instead of 30, and 1 + 1 refining layers instead of 2 + 2.
    Change(DETECTION, '"image_model"] = "lumina2"', '"dim"] == 3840', '"dim"] == 512'),
    Change(DETECTION, '"dim"] == 512', '"n_heads"] = 30', '"n_heads"] = 4'),
    Change(DETECTION, '"dim"] == 512', '"n_kv_heads"] = 30', '"n_kv_heads"] = 4'),
    Change("comfy/supported_models.py", "class ZImage(", '"dim": 3840', '"dim": 512'),
    Change("comfy/ldm/lumina/model.py", "class NextDiT(", "refiner_layers: int = 2", "refiner_layers: int = 1"),
    # Stable Cascade, the smaller variants of both stages.
    Change(DETECTION, "#stable cascade", "w.shape[0] == 1536", f"w.shape[0] == {SMALL_CASCADE_C['c_cond']}"),
    Change(DETECTION, "#stage c lite", "= 1536\n", f"= {SMALL_CASCADE_C['c_cond']}\n"),
    Change(DETECTION, "#stage c lite", "[1536, 1536]", str(SMALL_CASCADE_C["c_hidden"])),
    Change(DETECTION, "#stage c lite", "[24, 24]", str(SMALL_CASCADE_C["nhead"])),
    Change(DETECTION, "#stage c lite", "[[4, 12], [12, 4]]", str(SMALL_CASCADE_C["blocks"])),
    Change(DETECTION, "#stable cascade", "w.shape[-1] == 576", f"w.shape[-1] == {SMALL_CASCADE_B['c_hidden'][1]}"),
    Change(DETECTION, "#stage b lite", "[320, 576, 1152, 1152]", str(SMALL_CASCADE_B["c_hidden"])),
    Change(DETECTION, "#stage b lite", "[-1, 9, 18, 18]", str(SMALL_CASCADE_B["nhead"])),
    Change(DETECTION, "#stage b lite", "[[2, 4, 14, 4], [4, 14, 4, 2]]", str(SMALL_CASCADE_B["blocks"])),
    Change(DETECTION, "#stage b lite", "[[1, 1, 1, 1], [2, 2, 2, 2]]", str(SMALL_CASCADE_B["block_repeat"])),
    # Its decoder to pixels, whose blocks at a quarter of a picture's size take longer than all else together.
    Change("comfy/ldm/cascade/stage_a.py", "class StageA(", "bottleneck_blocks=12", "bottleneck_blocks=1"),
    Change("comfy/ldm/cascade/stage_a.py", "class StageA(", "c_hidden=384", "c_hidden=32"),
    # Text encoder of Z-Image.
    Change(LLAMA, "class Qwen3_4BConfig", "hidden_size: int = 2560", "hidden_size: int = 64"),
    Change(LLAMA, "class Qwen3_4BConfig", "intermediate_size: int = 9728", "intermediate_size: int = 128"),
    Change(LLAMA, "class Qwen3_4BConfig", "layers: int = 36", "layers: int = 3"),
    Change(LLAMA, "class Qwen3_4BConfig", "attention_heads: int = 32", "attention_heads: int = 4"),
    Change(LLAMA, "class Qwen3_4BConfig", "value_heads: int = 8", "value_heads: int = 2"),
    Change(
        "comfy/sd.py",
        "def detect_te_model",
        "== 2560:\n                return TEModel.QWEN3_4B",
        "== 64:\n                return TEModel.QWEN3_4B",
        newer=True,
    ),
    # Text encoder of Qwen-Image, which is known by its 4 key-value heads of 128; and the eye that comes with it.
    Change(LLAMA, "class Qwen25_7BVLI_Config", "hidden_size: int = 3584", "hidden_size: int = 64"),
    Change(LLAMA, "class Qwen25_7BVLI_Config", "intermediate_size: int = 18944", "intermediate_size: int = 128"),
    Change(LLAMA, "class Qwen25_7BVLI_Config", "layers: int = 28", "layers: int = 2"),
    Change(LLAMA, "class Qwen25_7BVLI_Config", "attention_heads: int = 28", "attention_heads: int = 4"),
    Change(LLAMA, "class Qwen25_7BVLI(", "hidden_size=1280", "hidden_size=64"),
    Change(
        "comfy/text_encoders/qwen_vl.py",
        "class Qwen2VLVision",
        "intermediate_size: int = 3420",
        "intermediate_size: int = 64",
    ),
    Change("comfy/text_encoders/qwen_vl.py", "class Qwen2VLVision", "num_layers: int = 32", "num_layers: int = 1"),
    # Anima: what reads its text, as narrow as its text encoder is made.
    Change(DETECTION, "# Cosmos predict2", '_channels"] = 1024', f'_channels"] = {ANIMA_TEXT_WIDTH}', newer=True),
    Change(ANIMA, "class LLMAdapter", "source_dim=1024", f"source_dim={ANIMA_TEXT_WIDTH}", newer=True),
    Change(ANIMA, "class LLMAdapter", "target_dim=1024", f"target_dim={ANIMA_TEXT_WIDTH}", newer=True),
    Change(ANIMA, "class LLMAdapter", "model_dim=1024", f"model_dim={ANIMA_TEXT_WIDTH}", newer=True),
    Change(ANIMA, "class LLMAdapter", "num_layers=6", "num_layers=1", newer=True),
    Change(
        LLAMA, "class Qwen3_06BConfig", "hidden_size: int = 1024", f"hidden_size: int = {ANIMA_TEXT_WIDTH}", newer=True
    ),
    Change(LLAMA, "class Qwen3_06BConfig", "intermediate_size: int = 3072", "intermediate_size: int = 192", newer=True),
    Change(LLAMA, "class Qwen3_06BConfig", "layers: int = 28", "layers: int = 2", newer=True),
    Change(LLAMA, "class Qwen3_06BConfig", "attention_heads: int = 16", "attention_heads: int = 4", newer=True),
    Change(LLAMA, "class Qwen3_06BConfig", "value_heads: int = 8", "value_heads: int = 2", newer=True),
    Change(
        "comfy/sd.py",
        "def detect_te_model",
        "== 1024:\n                return TEModel.QWEN3_06B",
        f"== {ANIMA_TEXT_WIDTH}:\n                return TEModel.QWEN3_06B",
        newer=True,
    ),
    # Text encoder of Krea 2, with the eye that comes with it.
    Change(
        LLAMA, "class Qwen3VL_4BConfig", "hidden_size: int = 2560", f"hidden_size: int = {KREA2_TEXT_WIDTH}", newer=True
    ),
    Change(
        LLAMA,
        "class Qwen3VL_4BConfig",
        "intermediate_size: int = 9728\n",
        "intermediate_size: int = 160\n    num_hidden_layers: int = 3\n    num_attention_heads: int = 4\n"
        "    num_key_value_heads: int = 2\n",
        newer=True,
    ),
    Change(
        "comfy/text_encoders/qwen3vl.py",
        "QWEN3VL_VISION = {",
        "hidden_size=1024, intermediate_size=4096, depth=24, deepstack_visual_indexes=[5, 11, 17]",
        "hidden_size=64, intermediate_size=64, depth=1, deepstack_visual_indexes=[0]",
        newer=True,
    ),
    Change(
        "comfy/text_encoders/krea2.py",
        "KREA2_TAP_LAYERS",
        "[2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 32, 35]",
        str(list(range(1, 1 + KREA2_TEXT_LAYERS))),
        newer=True,
    ),
    Change(
        "comfy/sd.py",
        "return TEModel.QWEN3VL_4B if",
        "== 2560",
        f"== {KREA2_TEXT_WIDTH}",
        newer=True,
    ),
)

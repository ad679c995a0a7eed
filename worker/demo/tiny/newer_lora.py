"""LoRAs of the families in newer.py, named as trainers of newer families name them."""

import re

from .lora import plain_lora
from .newer import anima_config, krea2_config
from .weights import StateDict

ANIMA_LAYERS = re.compile(r"^blocks\.\d+\.((self|cross)_attn\.(q|k|v|output)_proj|mlp\.layer[12])\.weight$")
KREA2_LAYERS = re.compile(r"^blocks\.\d+\.(attn\.w[qkvo]|mlp\.(gate|up|down))\.weight$")


def anima_lora() -> StateDict:
    return plain_lora(anima_config(), ANIMA_LAYERS)


def krea2_lora() -> StateDict:
    return plain_lora(krea2_config(), KREA2_LAYERS)

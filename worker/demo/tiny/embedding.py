"""Textual inversions: a few vectors in place of a word, one set for each text encoder of the family."""

import math

import torch

from .weights import StateDict, fill

#: Vectors of an embedding, and so tokens it takes of the prompt.
VECTORS = 4
#: Deviation of the tiny text encoders' vocabularies.
DEVIATION = 0.5


def sd15_embedding() -> StateDict:
    return _vectors({"emb_params": 768}, seed=80)


def sd2_embedding() -> StateDict:
    return _vectors({"emb_params": 1024}, seed=81)


def sdxl_embedding() -> StateDict:
    return _vectors({"clip_l": 768, "clip_g": 1280}, seed=82)


def _vectors(widths: dict[str, int], seed: int) -> StateDict:
    drawn = fill({name: torch.Size((VECTORS, width)) for name, width in widths.items()}, seed, torch.float32)
    return {name: tensor * DEVIATION * math.sqrt(widths[name]) for name, tensor in drawn.items()}

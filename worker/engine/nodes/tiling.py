"""Seamless pictures: convolutions wrap around to the opposite edge.

The cached model and VAE stay as they are. What is handed on are clones whose convolutions are changed for the length
of one call, in the one thread that renders, and are as before whatever the call came to.
"""

import copy
from contextlib import contextmanager

import torch


class HordeTiling:
    """A model and a VAE whose pictures tile seamlessly."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "vae": ("VAE",)}}

    RETURN_TYPES = ("MODEL", "VAE")
    FUNCTION = "tile"
    CATEGORY = "horde"

    def tile(self, model, vae):
        from comfy.patcher_extension import WrappersMP

        tiling_model = model.clone()
        tiling_model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "horde_tiling", _denoise)
        tiling_vae = copy.copy(vae)
        tiling_vae.first_stage_model = _TilingAutoencoder(vae.first_stage_model)
        return (tiling_model, tiling_vae)


def _denoise(executor, *arguments, **options):
    with _wrapping(executor.class_obj):
        return executor(*arguments, **options)


class _TilingAutoencoder:
    """Stands in for a VAE's network."""

    def __init__(self, network):
        self._network = network

    def __getattr__(self, name):
        return getattr(self._network, name)

    def encode(self, *arguments, **options):
        with _wrapping(self._network):
            return self._network.encode(*arguments, **options)

    def decode(self, *arguments, **options):
        with _wrapping(self._network):
            return self._network.decode(*arguments, **options)


@contextmanager
def _wrapping(network):
    """Every convolution of the network pads with the far edge instead of zeros."""
    changed = [
        (layer, layer.padding_mode)
        for layer in network.modules()
        if isinstance(layer, torch.nn.Conv2d) and layer.padding_mode == "zeros"
    ]
    try:
        for layer, _ in changed:
            layer.padding_mode = "circular"
        yield
    finally:
        for layer, padding_mode in changed:
            layer.padding_mode = padding_mode

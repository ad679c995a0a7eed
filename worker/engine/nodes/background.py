"""Cuts out the subject of a picture with rembg; the network comes from the owner's folders."""

import contextlib
import importlib
import os
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import folder_paths
import numpy as np
import torch

from .folders import listed, path_of

BACKGROUND = "rembg"
#: Channels of a picture without transparency.
COLOURS = 3
#: Mask values of certain foreground and certain background, of 255, and the width of the seam between, in pixels.
MATTING = {
    "alpha_matting": True,
    "alpha_matting_foreground_threshold": 240,
    "alpha_matting_background_threshold": 10,
    "alpha_matting_erode_size": 10,
}
#: Alpha matting of a larger picture runs at this size: at full size it takes minutes and tens of gigabytes.
MATTING_LIMIT_PX = 1024 * 1024


class HordeStripBackground:
    """Every picture with a transparent background. What was transparent stays so."""

    PACKAGES = ("rembg", "onnxruntime", "pymatting")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",), "model_name": (listed(BACKGROUND),)}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "strip"
    CATEGORY = "horde"

    def strip(self, images, model_name):
        from comfy import model_management, utils

        session = _session(path_of(BACKGROUND, model_name))
        count, height, width, channels = images.shape
        result = torch.empty((count, height, width, 4))
        progress = utils.ProgressBar(count)
        for image, stripped in zip(images, result, strict=True):
            model_management.throw_exception_if_processing_interrupted()
            colours = image[..., :3].clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
            stripped[:] = torch.from_numpy(_strip(colours, session).astype(np.float32) / 255)
            if channels > COLOURS:
                stripped[..., 3] = torch.minimum(stripped[..., 3], image[..., 3].cpu())
            progress.update(1)
        return (result,)


def _strip(colours, session):
    """RGB in, RGBA out."""
    from PIL import Image

    remove = _rembg().remove
    picture = Image.fromarray(colours)
    excess = picture.width * picture.height / MATTING_LIMIT_PX
    if excess <= 1:
        return np.asarray(remove(picture, session=session, **MATTING))
    size = [max(1, round(side / excess**0.5)) for side in picture.size]
    small = remove(picture.resize(size, Image.Resampling.LANCZOS), session=session, **MATTING)
    picture.putalpha(small.getchannel("A").resize(picture.size, Image.Resampling.BICUBIC))
    return np.asarray(picture)


def _rembg():
    """rembg, imported with only the parts of pymatting that it uses.

    pymatting compiles every function at its first import, 70 s of a job's time, and what rembg uses 15 s (pymatting
    1.1.16, numba 0.68, a processor core of 2023). So until rembg is there pymatting's packages stand in for themselves
    without their `__init__`, which would import all.
    """
    if "rembg" not in sys.modules and "pymatting" not in sys.modules:
        root = Path(find_spec("pymatting").origin).parent
        _keep_compiled(root)
        for file in root.rglob("__init__.py"):
            name = ".".join(file.parent.relative_to(root.parent).parts)
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = [str(file.parent)]
        with contextlib.suppress(ImportError):  # of a release that needs more: it gets all of it below
            importlib.import_module("rembg")
        # Whoever else imports pymatting gets it whole.
        for name in [name for name in sys.modules if name.partition(".")[0] == "pymatting"]:
            del sys.modules[name]
    return importlib.import_module("rembg")


def _keep_compiled(package):
    """Have numba keep what it compiles in the engine's own folder where it can't keep it beside the package."""
    import numba

    if not numba.config.CACHE_DIR and not os.access(package, os.W_OK):
        numba.config.CACHE_DIR = str(Path(folder_paths.base_path, "numba"))


_kept = {}


def _session(path):
    """The loaded network; the last one is kept. It runs on the CPU, because the card is busy with the next picture."""
    from onnxruntime import SessionOptions

    _rembg()
    from rembg.sessions.u2net import U2netSession

    class Stored(U2netSession):
        """rembg's session without its download of the file."""

        @classmethod
        def download_models(cls, *_args, **_options):
            return path

    if path not in _kept:
        _kept.clear()
        _kept[path] = Stored("u2net", SessionOptions(), providers=["CPUExecutionProvider"])
    return _kept[path]

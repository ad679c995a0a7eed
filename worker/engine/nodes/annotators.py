"""Preprocessors of ControlNets: a picture as the map that guides one, as edges, depth, a pose, regions.

Networks come from controlnet-aux and transformers, their weights from the models folder; nothing is ever fetched here.
Several need a card for a moment only, so they wait in main memory between jobs.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Folder of the weights, relative to ComfyUI's controlnet folders.
FOLDER = "annotator/ckpts"
#: Kind of map → the file with its network's weights; None where arithmetic does it.
WEIGHTS = {
    "canny": None,
    "scribble": None,
    "hed": "ControlNetHED.pth",
    "fakescribbles": "ControlNetHED.pth",
    "depth": "res101.pth",
    "normal": "dpt_hybrid-midas-501f0c75.pt",
    "openpose": "body_pose_model.pth",
    "mlsd": "mlsd_large_512_fp32.pth",
    "seg": "upernet-convnext-small/pytorch_model.bin",
}
#: Every network takes sides that are a multiple of this, in pixels.
SIDE_STEP_PX = 64

#: Thresholds for cv2.Canny.
CANNY = (100, 200)
#: A pixel below this in any channel belongs to a drawn line, 0..255.
INK_BELOW = 127
#: Soft edges above the first threshold become strokes: blurred by the second, black where the third is left.
EDGE_ABOVE, STROKE_PX, INK_ABOVE = 127, 3.0, 4
#: Minimum score of a straight line, and its minimum length in pixels on the map at half size.
LINE_SCORE, LINE_LENGTH = 0.15, 1.0
#: Depth within this share of the farthest point is background, whose normals are flat.
NORMAL_BACKGROUND = 0.05

#: Bytes of weights kept for the next job; the ones used last are always kept.
CAPACITY_BYTES = 1024 * 1024 * 1024


@dataclass(frozen=True)
class Annotator:
    """A network with its weights. `apply`: uint8 [H, W, 3] → the map, of the same shape or [H, W]."""

    network: Any
    apply: Callable[[Any], Any]

    @property
    def weight_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.network.parameters())


class Shelf:
    """Annotators by their weights' file, least recently used dropped first. Used by the executor's thread alone."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._by_file: OrderedDict[str, Annotator] = OrderedDict()

    def get(self, file: str, load: Callable[[], Annotator]) -> Annotator:
        if file not in self._by_file:
            self._by_file[file] = load()
        self._by_file.move_to_end(file)
        while len(self._by_file) > 1 and sum(each.weight_bytes for each in self._by_file.values()) > (
            self._capacity_bytes
        ):
            self._by_file.popitem(last=False)
        return self._by_file[file]


SHELF = Shelf(CAPACITY_BYTES)


class HordeAnnotator:
    """The map for one kind of ControlNet, of every picture of a batch, at the picture's size."""

    #: packages that an owner's own environment may lack
    PACKAGES = ("controlnet_aux", "cv2", "transformers")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "kind": (list(WEIGHTS),)}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "annotate"
    CATEGORY = "horde"

    def annotate(self, image, kind):
        import torch
        from comfy import model_management

        apply = CALCULATED.get(kind) or _with_network(kind)
        maps = []
        for picture in image:
            model_management.throw_exception_if_processing_interrupted()
            pixels = picture[..., :3].clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
            maps.append(torch.from_numpy(annotated(pixels, apply)).float().div(255))
        return (torch.stack(maps).to(model_management.intermediate_device()),)


def annotated(pixels, apply):
    """The map as uint8 [H, W, 3]; `apply` gets the picture with its sides scaled to multiples of 64."""
    import cv2
    import numpy as np

    height, width = pixels.shape[:2]
    work_height, work_width = (max(SIDE_STEP_PX, round(side / SIDE_STEP_PX) * SIDE_STEP_PX) for side in (height, width))
    larger = work_height * work_width > height * width
    if (work_height, work_width) != (height, width):
        how = cv2.INTER_LANCZOS4 if larger else cv2.INTER_AREA
        pixels = cv2.resize(pixels, (work_width, work_height), interpolation=how)
    result = np.ascontiguousarray(apply(np.ascontiguousarray(pixels)))
    if len(result.shape) != len(pixels.shape):
        result = np.repeat(result[..., None], 3, axis=2)
    if result.shape[:2] != (height, width):
        result = cv2.resize(result, (width, height), interpolation=cv2.INTER_AREA)
    return result


def _canny(pixels):
    import cv2

    return cv2.Canny(pixels, *CANNY)


def _scribble(pixels):
    import numpy as np

    return np.where(pixels.min(axis=2) < INK_BELOW, 255, 0).astype(np.uint8)


#: Kinds that need no network.
CALCULATED = {"canny": _canny, "scribble": _scribble}


def _with_network(kind):
    """The kind's function, run on the engine's device; before and after the network is in main memory."""
    import torch
    from comfy import model_management

    file = WEIGHTS[kind]
    annotator = SHELF.get(file, lambda: LOADERS[file](_weights_path(file)))
    device = model_management.get_torch_device()

    def apply(pixels):
        model_management.free_memory(annotator.weight_bytes * 2, device)
        annotator.network.to(device)
        try:
            with torch.inference_mode():
                return annotator.apply(pixels) if kind != "fakescribbles" else _thinned(annotator.apply(pixels))
        finally:
            annotator.network.to("cpu")

    return apply


def _weights_path(file):
    import folder_paths

    path = folder_paths.get_full_path("controlnet", f"{FOLDER}/{file}")
    if path is None:
        raise FileNotFoundError(f"the weights {FOLDER}/{file} are in no controlnet folder")
    return Path(path)


def _state(path):
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _side(pixels):
    """controlnet-aux's `resolution` that keeps the picture's size."""
    side = min(pixels.shape[:2])
    return {"detect_resolution": side, "image_resolution": side}


def _load_hed(path):
    from controlnet_aux.hed import ControlNetHED_Apache2, HEDdetector

    network = ControlNetHED_Apache2()
    network.load_state_dict(_state(path))
    detector = HEDdetector(network.float().eval())
    return Annotator(network, lambda pixels: detector(pixels, output_type="np", **_side(pixels)))


def _thinned(edges):
    """Soft edges turned into pen strokes."""
    import cv2
    import numpy as np
    from controlnet_aux.util import nms

    strokes = cv2.GaussianBlur(nms(edges[..., 0], EDGE_ABOVE, STROKE_PX), (0, 0), STROKE_PX)
    return np.where(strokes > INK_ABOVE, 255, 0).astype(np.uint8)


def _load_depth(path):
    from controlnet_aux.leres import LeresDetector
    from controlnet_aux.leres.leres.multi_depth_model_woauxi import RelDepthModel
    from controlnet_aux.leres.leres.net_tools import strip_prefix_if_present

    network = RelDepthModel(backbone="resnext101")
    network.load_state_dict(strip_prefix_if_present(_state(path)["depth_model"], "module."))
    # The second network is for its boosted mode, which is not used here.
    detector = LeresDetector(network.eval(), None)
    return Annotator(network, lambda pixels: detector(pixels, output_type="np", **_side(pixels)))


def _load_normal(path):
    from controlnet_aux.midas import MidasDetector
    from controlnet_aux.midas.api import MiDaSInference

    network = MiDaSInference(model_type="dpt_hybrid", model_path=str(path))
    detector = MidasDetector(network)

    def apply(pixels):
        # Of depth and normals; the channels come in the order the ControlNet was trained with.
        return detector(pixels, bg_th=NORMAL_BACKGROUND, depth_and_normal=True, output_type="np", **_side(pixels))[1]

    return Annotator(network, apply)


def _load_pose(path):
    from controlnet_aux.open_pose import OpenposeDetector
    from controlnet_aux.open_pose.body import Body
    from controlnet_aux.open_pose.model import bodypose_model
    from controlnet_aux.open_pose.util import transfer

    network = bodypose_model()
    network.load_state_dict(transfer(network, _state(path)))
    # Its own loader fails on a machine without the device that the weights were saved on.
    body = Body.__new__(Body)
    body.model = network.eval()
    detector = OpenposeDetector(body)
    return Annotator(network, lambda pixels: detector(pixels, output_type="np", **_side(pixels)))


def _load_lines(path):
    from controlnet_aux.mlsd.models.mbv2_mlsd_large import MobileV2_MLSD_Large

    network = MobileV2_MLSD_Large()
    network.load_state_dict(_state(path))
    network.eval()
    return Annotator(network, lambda pixels: _drawn_lines(pixels, network))


def _drawn_lines(pixels, network):
    import cv2
    import numpy as np
    from controlnet_aux.mlsd.utils import pred_lines

    canvas = np.zeros(pixels.shape[:2], np.uint8)
    try:
        found = pred_lines(pixels, network, list(pixels.shape[:2]), LINE_SCORE, LINE_LENGTH)
    except IndexError:  # raised when there are none
        return canvas
    for line in found:
        start_x, start_y, end_x, end_y = (int(value) for value in line)
        cv2.line(canvas, (start_x, start_y), (end_x, end_y), 255, 1)
    return canvas


def _load_regions(path):
    from .regions import load_regions

    network, apply = load_regions(path)
    return Annotator(network, apply)


LOADERS = {
    "ControlNetHED.pth": _load_hed,
    "res101.pth": _load_depth,
    "dpt_hybrid-midas-501f0c75.pt": _load_normal,
    "body_pose_model.pth": _load_pose,
    "mlsd_large_512_fp32.pth": _load_lines,
    "upernet-convnext-small/pytorch_model.bin": _load_regions,
}

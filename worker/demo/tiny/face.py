"""Face restoration: what finds faces, what knows their outline, what restores them.

Nothing here is random. The detector takes a red region for a face, with eyes, nose and mouth where an upright face of
the region's size has them; the parser takes all of a face for skin; a restorer answers with a face of one colour. So a
test can draw a face, and see exactly where it was restored. All other weights are zeros that share one number.

facexlib and spandrel_extra_arches are asked for the shapes where the engine has them.
"""

from collections.abc import Mapping

import torch

from .weights import Shapes, StateDict, shapes_of

#: Red, green and blue of a restored face, from -1 to 1.
FACE_COLOUR = torch.tensor([0.6, -0.2, 0.2])
#: By how much of its range red must exceed green in a face, on average over 224 of 640 pixels.
REDNESS = 0.15
#: Odds, as a logarithm: what counts as a face with facexlib's helper (97 %), what never does, and how fast they grow.
THRESHOLD, NEVER, SURENESS = 3.5, -20.0, 20.0
#: Half of the real one's; spandrel sees it from the file.
RESTOREFORMER_WIDTH = 32
#: First of the channels whose features come from the widest surroundings.
SMOOTHED = 192
#: Eyes, nose and corners of the mouth, x before y, in a face of 512 pixels: where FFHQ's faces have them.
LANDMARKS = (193.0, 240.0, 318.9, 240.2, 256.6, 314.0, 201.3, 371.4, 313.1, 371.2)
#: Landmarks are counted from the middle of a box, in tenths of its side.
LANDMARK_UNIT = 51.2


def retinaface() -> StateDict:
    from facexlib.detection.retinaface import RetinaFace

    shapes = shapes_of(RetinaFace(network_name="resnet50", device=torch.device("cpu")))
    # Red less green travels in channel 0, through the shortcuts of the backbone to the coarsest of three maps, where it
    # is smoothed: the middle of a face is then its best place, and its surroundings are no faces of their own.
    seen = torch.zeros(shapes["body.conv1.weight"])
    seen[0, 2], seen[0, 1] = 1 / (255 * 49), -1 / (255 * 49)
    state: StateDict = {"body.conv1.weight": seen, **_passing("body.bn1", shapes)}
    for block in (
        *(f"body.layer{layer}.0.downsample" for layer in (1, 2, 3, 4)),
        "fpn.output3",
        *(f"ssh3.{convolution}" for convolution in ("conv5X5_1", "conv7X7_2", "conv7x7_3")),
    ):
        average = torch.zeros(shapes[f"{block}.0.weight"])
        average[0, 0] = 1 / average[0, 0].numel()
        state |= {f"{block}.0.weight": average, **_passing(f"{block}.1", shapes)}
    # Two boxes per place, of 256 and 512 pixels, each with a score for "no face" and one for "face".
    score = torch.zeros(shapes["ClassHead.2.conv1x1.weight"])
    score[3, SMOOTHED] = SURENESS
    state["ClassHead.2.conv1x1.weight"] = score
    for level, face in enumerate((NEVER, NEVER, THRESHOLD - SURENESS * REDNESS)):
        state[f"ClassHead.{level}.conv1x1.bias"] = torch.tensor([0, NEVER, 0, face])
    offsets = (torch.tensor(LANDMARKS) - 256) / LANDMARK_UNIT
    state["LandmarkHead.2.conv1x1.bias"] = torch.cat((torch.zeros(10), offsets))
    return _zeros(shapes) | state


def parsenet() -> StateDict:
    from facexlib.parsing.parsenet import ParseNet

    shapes = shapes_of(ParseNet(in_size=512, out_size=512, parsing_ch=19))
    skin = torch.zeros(19)
    skin[1] = 1
    return _zeros(shapes) | {"out_mask_conv.conv2d.bias": skin}


def gfpgan() -> StateDict:
    from spandrel.architectures.GFPGAN import GFPGAN

    shapes = shapes_of(
        GFPGAN(
            out_size=512, channel_multiplier=2, fix_decoder=False, input_is_latent=True, different_w=True, sft_half=True
        )
    )
    last = max(int(name.split(".")[2]) for name in shapes if name.startswith("stylegan_decoder.to_rgbs."))
    colour = {f"stylegan_decoder.to_rgbs.{last}.bias": FACE_COLOUR.view(1, 3, 1, 1)}
    return {"params_ema": _zeros(shapes) | colour}


def restoreformer() -> StateDict:
    from spandrel.architectures.RestoreFormer import RestoreFormer

    return _zeros(shapes_of(RestoreFormer(ch=RESTOREFORMER_WIDTH))) | {"decoder.conv_out.bias": FACE_COLOUR}


def codeformer() -> StateDict:
    from spandrel_extra_arches.architectures.CodeFormer import CodeFormer

    shapes = shapes_of(CodeFormer(connect_list=["32", "64", "128", "256"]))
    last = max(int(name.split(".")[2]) for name in shapes if name.startswith("generator.blocks."))
    return {"params_ema": _zeros(shapes) | {f"generator.blocks.{last}.bias": FACE_COLOUR}}


def _zeros(shapes: Shapes) -> StateDict:
    counts = (name.endswith("num_batches_tracked") for name in shapes)
    return {
        name: torch.zeros((), dtype=torch.int64 if count else torch.float32).expand(shape)
        for (name, shape), count in zip(shapes.items(), counts, strict=True)
    }


def _passing(norm: str, shapes: Mapping[str, torch.Size]) -> StateDict:
    """A normalisation that changes nothing."""
    return {f"{norm}.{part}": torch.ones(shapes[f"{norm}.{part}"]) for part in ("weight", "running_var")}

"""Weights for the networks that make control maps, in their real sizes: smaller ones do not exist.

Edges and poses are built by hand, so that a test can draw something and see it found: edges are where brightness
changes; a person is one red, one green and one blue spot, from left to right. The other networks are random.
"""

import torch

from .weights import Shapes, StateDict, shapes_of, thin

#: How strong a change of brightness (0..1) counts, and what is no edge, as logarithms of odds.
EDGE_GAIN, NO_EDGE = 60.0, -4.0
#: Body parts in the order of their maps, and the channel of the picture (blue, green, red) that shows each: neck, right
#: shoulder and elbow, left shoulder. Four are the fewest that make a person.
PARTS = {1: 2, 2: 1, 3: 0, 5: 1}
#: Maps of the direction from part to part, of which x is the first: neck to each shoulder, shoulder to elbow.
LIMBS_X = (12, 14, 20)
#: A part is where its colour is this much stronger than the other two; and the size of a certain find.
COLOUR_ABOVE, PART_GAIN = 0.25, 4.0
#: Where the ends of a line are told, and what makes them lie some pixels apart.
FIRST_END, LINE_LENGTH_GAIN = 8, 40


def hed() -> StateDict:
    from controlnet_aux.hed import ControlNetHED_Apache2

    state = _zeros(shapes_of(ControlNetHED_Apache2()))
    # Brightness less that of the surroundings, and the opposite: one of them is positive at an edge.
    change = torch.full((3, 3), -1 / 8)
    change[1, 1] = 1
    seen = torch.zeros(64, 3, 3, 3)
    seen[0] = change / (3 * 255)
    seen[1] = -seen[0]
    # At half the size every edge is made three times as wide: real ones are soft.
    passed = torch.zeros(128, 128, 3, 3)
    passed[(0, 1), (0, 1), 1, 1] = 1
    widened = torch.zeros(128, 64, 3, 3)
    widened[(0, 1), (0, 1)] = 1
    weighed = torch.zeros(1, 128, 1, 1)
    # The map is the mean of five, of which four say nothing.
    weighed[0, :2] = 5 * EDGE_GAIN
    return state | {
        "block1.convs.0.weight": seen,
        "block1.convs.1.weight": passed[:64, :64],
        "block2.convs.0.weight": widened,
        "block2.convs.1.weight": passed,
        "block2.projection.weight": weighed,
        "block2.projection.bias": torch.tensor([5 * NO_EDGE]),
    }


def leres() -> StateDict:
    from controlnet_aux.leres.leres.multi_depth_model_woauxi import RelDepthModel

    with torch.device("meta"):
        shapes = shapes_of(RelDepthModel(backbone="resnext101"))
    return {"depth_model": thin(shapes, seed=81)}


def midas() -> StateDict:
    from controlnet_aux.midas.midas.dpt_depth import DPTDepthModel

    with torch.device("meta"):
        shapes = shapes_of(DPTDepthModel(backbone="vitb_rn50_384", non_negative=True))
    # Its last layer cuts off what is below zero.
    return thin(shapes, seed=82) | {"scratch.output_conv.4.bias": torch.tensor([8.0])}


def pose() -> StateDict:
    from controlnet_aux.open_pose.model import bodypose_model

    with torch.device("meta"):
        shapes = shapes_of(bodypose_model())
    state = _zeros(shapes)
    spots = range(3)
    # One channel for each colour: how much stronger it is than the other two. The picture comes as -0.5..0.5.
    seen = torch.full((3, 3), -0.5) + 1.5 * torch.eye(3)
    for name, shape in shapes.items():
        if name.startswith("model0.") and name.endswith(".weight"):
            passed = torch.zeros(shape)
            middle = shape[2] // 2
            passed[:3, :3, middle, middle] = seen if name.startswith("model0.conv1_1.") else torch.eye(3)
            state[name] = passed
        elif name.startswith("model6_2.") and name.endswith(".weight"):
            passed = torch.zeros(shape)
            middle = shape[2] // 2
            # The picture's features come after the 38 and 19 maps of the stage before.
            first = 57 if ".Mconv1_" in name else 0
            if ".Mconv7_" in name:
                for part, colour in PARTS.items():
                    passed[part, colour] = PART_GAIN
            else:
                passed[spots, [first + spot for spot in spots], middle, middle] = 1
            state[name] = passed
    directions = torch.zeros(38)
    directions[list(LIMBS_X)] = 1
    below = torch.zeros(64)
    below[:3] = -COLOUR_ABOVE
    state |= {"model0.conv1_1.bias": below, "model6_1.Mconv7_stage6_L1.bias": directions}
    # The file has the layers' own names, without the part of the network they are in.
    return {name.partition(".")[2]: tensor for name, tensor in state.items()}


def lines() -> StateDict:
    from controlnet_aux.mlsd.models.mbv2_mlsd_large import MobileV2_MLSD_Large

    state = thin(shapes_of(MobileV2_MLSD_Large()), seed=83)
    # Of the last layer's sixteen channels the five from here on are used: how sure a line is, and where it ends.
    ends = state["block23.conv3.weight"].clone()
    ends[FIRST_END : FIRST_END + 4] *= LINE_LENGTH_GAIN
    return state | {"block23.conv3.weight": ends}


def regions() -> StateDict:
    from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation

    backbone = ConvNextConfig(
        depths=[3, 3, 27, 3],
        hidden_sizes=[96, 192, 384, 768],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    with torch.device("meta"):
        network = UperNetForSemanticSegmentation(
            UperNetConfig(backbone_config=backbone, num_labels=150, auxiliary_in_channels=384)
        )
    return thin(shapes_of(network), seed=84)


def _zeros(shapes: Shapes) -> StateDict:
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}

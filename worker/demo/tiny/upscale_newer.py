"""Upscalers of newer architectures that enlarge a picture and leave it as it is.

Every layer is there and adds nothing, but for those on the way of the three colours, which pass them on.
"""

from spandrel.architectures.DAT import DAT
from spandrel.architectures.PLKSR import RealPLKSR
from spandrel.architectures.SPAN import SPAN
from torch import Tensor, nn, ones, zeros

from .weights import StateDict

COLOURS = 3
#: Few, but as many as each architecture can be divided into.
FILTERS = 8
DAT_FILTERS = 32
#: What DAT has before it enlarges; fixed in spandrel.
DAT_FEATURES = 64


def realplksr_x4() -> StateDict:
    """The picture itself goes around all of its layers."""
    return _nothing_but(RealPLKSR(dim=FILTERS, n_blocks=1, upscaling_factor=4), {})


def realplksr_dysample_x4() -> StateDict:
    """Each colour comes sixteen times, and the last layer takes their mean."""
    mean = zeros(COLOURS, COLOURS * 16, 1, 1)
    for colour in range(COLOURS):
        mean[colour, colour * 16 : (colour + 1) * 16] = 1 / 16
    network = RealPLKSR(dim=FILTERS, n_blocks=1, upscaling_factor=4, dysample=True)
    return _nothing_but(network, {"to_img.end_conv.weight": mean})


def span_x2() -> StateDict:
    network = SPAN(num_in_ch=COLOURS, num_out_ch=COLOURS, feature_channels=FILTERS, upscale=2, norm=False)
    return _nothing_but(
        network,
        {
            "conv_1.sk.weight": _passed_on(FILTERS, COLOURS, side=1),
            "conv_cat.weight": _passed_on(FILTERS, FILTERS * 4, side=1),
            "upsampler.0.weight": _passed_on(COLOURS * 4, FILTERS, times=4),
        },
    )


def dat_x4() -> StateDict:
    network = DAT(embed_dim=DAT_FILTERS, split_size=[8, 8], depth=[2], num_heads=[2], expansion_factor=2.0, upscale=4)
    return _nothing_but(
        network,
        {
            "conv_first.weight": _passed_on(DAT_FILTERS, COLOURS),
            "conv_before_upsample.0.weight": _passed_on(DAT_FEATURES, DAT_FILTERS),
            # Dark pixels are below zero here, where the next layer would cut them off.
            "conv_before_upsample.0.bias": ones(DAT_FEATURES),
            "upsample.0.weight": _passed_on(DAT_FEATURES * 4, DAT_FEATURES, times=4),
            "upsample.2.weight": _passed_on(DAT_FEATURES * 4, DAT_FEATURES, times=4),
            "conv_last.weight": _passed_on(COLOURS, DAT_FEATURES),
            "conv_last.bias": -ones(COLOURS),
        },
    )


def _nothing_but(network: nn.Module, given: StateDict) -> StateDict:
    """The network's state with zeros for all that is learned, except what is given."""
    return {**network.state_dict(), **{name: zeros(each.shape) for name, each in network.named_parameters()}, **given}


def _passed_on(outputs: int, inputs: int, *, side: int = 3, times: int = 1) -> Tensor:
    """A kernel whose first outputs are the first three inputs, each so many times."""
    weight = zeros(outputs, inputs, side, side)
    for colour in range(COLOURS):
        weight[colour * times : (colour + 1) * times, colour, side // 2, side // 2] = 1
    return weight

"""Segmentation of a picture in the 150 colours of ADE20K: UPerNet on ConvNeXt, from transformers."""

#: The short side the network was trained with, in pixels; larger pictures are shrunk to it.
SHORT_SIDE_PX = 512
#: What the network divides a side by.
SIDE_STEP_PX = 32
#: Mean and deviation of the training pictures' channels, red first.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = 150
#: Rows of a picture that are classified at once.
STRIP_ROWS = 32


def network_shape():
    """The configuration that belongs to the weights of openmmlab/upernet-convnext-small."""
    from transformers import ConvNextConfig, UperNetConfig

    backbone = ConvNextConfig(
        depths=[3, 3, 27, 3],
        hidden_sizes=[96, 192, 384, 768],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return UperNetConfig(backbone_config=backbone, num_labels=CLASSES, auxiliary_in_channels=384)


def load_regions(path):
    """The network, and the function from uint8 [H, W, 3] to the coloured regions."""
    import torch
    from transformers import UperNetForSemanticSegmentation

    network = UperNetForSemanticSegmentation(network_shape())
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network.eval()
    return network, lambda pixels: coloured(pixels, network)


def coloured(pixels, network):
    import cv2
    import numpy as np
    import torch
    from controlnet_aux.util import ade_palette

    height, width = pixels.shape[:2]
    scale = min(1, SHORT_SIDE_PX / min(height, width))
    size = [max(1, round(side * scale / SIDE_STEP_PX)) * SIDE_STEP_PX for side in (width, height)]
    scaled = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    values = torch.from_numpy((scaled - np.float32(MEAN)) / np.float32(DEVIATION)).permute(2, 0, 1)[None]
    logits = network(pixel_values=values.to(network.device)).logits
    return np.array(ade_palette(), np.uint8)[_likeliest(logits, height, width).cpu().numpy()]


def _likeliest(logits, height, width):
    """The class of every pixel of a picture this large, of logits [1, classes, H, W] enlarged bilinearly.

    Enlarged at once they would take gigabytes that nobody has set aside.
    """
    import torch

    rows = logits.shape[2]
    # The position of each of the picture's rows between two rows of the logits, measured from pixel centres.
    at = ((torch.arange(height, device=logits.device, dtype=logits.dtype) + 0.5) * rows / height - 0.5).clamp(min=0)
    above = at.long()
    below = (above + 1).clamp(max=rows - 1)
    share = (at - above)[:, None]
    strips = []
    for strip in torch.arange(height, device=logits.device).split(STRIP_ROWS):
        narrow = torch.lerp(logits[:, :, above[strip]], logits[:, :, below[strip]], share[strip])
        wide = torch.nn.functional.interpolate(narrow, size=(len(strip), width), mode="bilinear", align_corners=False)
        strips.append(wide[0].argmax(0))
    return torch.cat(strips)

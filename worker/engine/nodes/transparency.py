"""LayerDiffuse's decoder: from a picture and its latent to colours and alpha."""

import torch
from torch import nn
from torch.nn import functional

from .folders import listed, path_of
from .layers import LAYERS

#: Channels of the levels, from full size downwards; the deepest ones have attention.
WIDTHS = (32, 32, 64, 128, 256, 512, 512)
FIRST_ATTENTION = 4
#: Level at which the latent joins: it has an eighth of the picture's size.
LATENT_LEVEL, LATENT_CHANNELS = 3, 4
LAYERS_DOWN, LAYERS_UP = 2, 3
GROUPS, EPSILON, HEAD_WIDTH = 4, 1e-5, 8
#: Output channels: alpha, then red, green and blue.
OUTPUTS = 4
#: Sides of the picture must be multiples of this, because it is halved that often.
MULTIPLE_PX = 64
#: Working memory for a pixel, in bytes, with a margin.
WORK_BYTES_PER_PIXEL = 2048


class HordeTransparentDecode:
    """Every picture of a batch with its alpha, decoded from the picture and its latent."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"samples": ("LATENT",), "images": ("IMAGE",), "decoder": (listed(LAYERS),)}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "decode"
    CATEGORY = "horde"

    def decode(self, samples, images, decoder):
        from comfy import model_management, utils

        _, height, width, _ = images.shape
        if height % MULTIPLE_PX or width % MULTIPLE_PX:
            raise ValueError(f"transparency needs sides that are multiples of {MULTIPLE_PX}, not {width}x{height}")
        patcher = _network(path_of(LAYERS, decoder))
        work_bytes = height * width * WORK_BYTES_PER_PIXEL
        model_management.load_models_gpu([patcher], memory_required=work_bytes)
        network, device, dtype = patcher.model, patcher.load_device, patcher.model.conv_in.weight.dtype
        result = torch.empty((*images.shape[:3], OUTPUTS))
        progress = utils.ProgressBar(len(images))
        with torch.inference_mode():
            for picture, latent, layered in zip(images, samples["samples"], result, strict=True):
                seen = picture[None, ..., :3].movedim(-1, 1).to(device, dtype)
                alpha, *colours = _steadily(network, seen, latent[None].to(device, dtype))[0].float().cpu()
                layered[:] = torch.stack((*colours, alpha), dim=-1)
                progress.update(1)
        return (result,)


def _steadily(network, picture, latent):
    """The median of the network's results over the eight rotations and reflections of the picture."""
    found = []
    for mirrored in (False, True):
        for turns in range(4):
            turned = (torch.rot90(each.flip(3) if mirrored else each, turns, (2, 3)) for each in (picture, latent))
            layers = torch.rot90(network(*turned).clamp(0, 1), -turns, (2, 3))
            found.append(layers.flip(3) if mirrored else layers)
    return torch.stack(found).median(dim=0).values


_kept = {}


def _network(path):
    """The decoder as a model that ComfyUI manages; the last one is kept."""
    from comfy import model_management, utils
    from comfy.model_patcher import ModelPatcher

    if path not in _kept:
        device = model_management.get_torch_device()
        state = utils.load_torch_file(path, safe_load=True)
        network = TransparencyDecoder()
        network.load_state_dict(state)
        dtype = torch.float16 if model_management.should_use_fp16(device) else torch.float32
        network.to(dtype).eval()
        _kept.clear()
        _kept[path] = ModelPatcher(network, device, model_management.unet_offload_device())
    return _kept[path]


class Residual(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, inputs, EPSILON)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, outputs, EPSILON)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, features):
        changed = self.conv1(functional.silu(self.norm1(features)))
        return self.conv_shortcut(features) + self.conv2(functional.silu(self.norm2(changed)))


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.group_norm = nn.GroupNorm(GROUPS, width, EPSILON)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, features):
        positions = self.group_norm(features).flatten(2).transpose(1, 2)
        heads = (
            projection(positions).unflatten(-1, (-1, HEAD_WIDTH)).transpose(1, 2)
            for projection in (self.to_q, self.to_k, self.to_v)
        )
        attended = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        return features + self.to_out[0](attended).transpose(1, 2).unflatten(2, features.shape[2:])


class Resized(nn.Module):
    """The convolution of a down- or upsampling step."""

    def __init__(self, width, stride):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=stride, padding=1)

    def forward(self, features):
        return self.conv(features)


class Level(nn.Module):
    """Residual layers, each followed by attention where the level has any."""

    def __init__(self, sizes, *, attends):
        super().__init__()
        self.resnets = nn.ModuleList(Residual(inputs, outputs) for inputs, outputs in sizes)
        if attends:
            self.attentions = nn.ModuleList(Attention(outputs) for _, outputs in sizes)

    def layers(self):
        attentions = getattr(self, "attentions", [nn.Identity()] * len(self.resnets))
        return [nn.Sequential(*pair) for pair in zip(self.resnets, attentions, strict=True)]


class Middle(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.resnets = nn.ModuleList(Residual(width, width) for _ in range(2))
        self.attentions = nn.ModuleList([Attention(width)])

    def forward(self, features):
        return self.resnets[1](self.attentions[0](self.resnets[0](features)))


class TransparencyDecoder(nn.Module):
    """A U-Net over the picture, joined by the latent on the way down. Attribute names are the file's."""

    def __init__(self):
        super().__init__()
        self.conv_in = nn.Conv2d(3, WIDTHS[0], 3, padding=1)
        self.latent_conv_in = nn.Conv2d(LATENT_CHANNELS, WIDTHS[LATENT_LEVEL - 1], 1)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        skipped, width = [WIDTHS[0]], WIDTHS[0]
        for level, outputs in enumerate(WIDTHS):
            block = Level([(width, outputs), (outputs, outputs)], attends=level >= FIRST_ATTENTION)
            skipped += [outputs] * LAYERS_DOWN
            if level < len(WIDTHS) - 1:
                block.downsamplers = nn.ModuleList([Resized(outputs, stride=2)])
                skipped.append(outputs)
            self.down_blocks.append(block)
            width = outputs
        self.mid_block = Middle(width)
        for level in reversed(range(len(WIDTHS))):
            sizes = []
            for _ in range(LAYERS_UP):
                sizes.append((width + skipped.pop(), WIDTHS[level]))
                width = WIDTHS[level]
            block = Level(sizes, attends=level >= FIRST_ATTENTION)
            if level:
                block.upsamplers = nn.ModuleList([Resized(width, stride=1)])
            self.up_blocks.append(block)
        self.conv_norm_out = nn.GroupNorm(GROUPS, width, EPSILON)
        self.conv_out = nn.Conv2d(width, OUTPUTS, 3, padding=1)

    def forward(self, picture, latent):
        features = self.conv_in(picture)
        skipped = [features]
        for level, block in enumerate(self.down_blocks):
            if level == LATENT_LEVEL:
                features = features + self.latent_conv_in(latent)
            for layer in block.layers():
                features = layer(features)
                skipped.append(features)
            if hasattr(block, "downsamplers"):
                features = block.downsamplers[0](features)
                skipped.append(features)
        features = self.mid_block(features)
        for block in self.up_blocks:
            for layer in block.layers():
                features = layer(torch.cat((features, skipped.pop()), dim=1))
            if hasattr(block, "upsamplers"):
                features = block.upsamplers[0](functional.interpolate(features, scale_factor=2.0, mode="nearest"))
        return self.conv_out(functional.silu(self.conv_norm_out(features)))

"""Pictures with transparency of their own, after "Transparent Image Layer Diffusion using Latent Transparency"
(Zhang and Agrawala, 2024).

The model is changed to draw on nothing: for SDXL by differences of convolutions, for SD1.5 in its attention. All of
that is patches on a clone, so LoRAs keep their effect and the cached model stays as it is. A second decoder then
tells colours and alpha from latent and picture.
"""

import torch
from torch.nn import functional

from .folders import listed, path_of

LAYERS = "layer_model"
#: Prefix of the tensors' names that tells what a file is.
CONVOLUTION, ATTENTION = "diffusion_model.", "hookers.layers."
#: The projections of an attention layer, by the file's names and by the model's.
PROJECTIONS = {"to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "to_out": "to_out.0"}
#: Name of the normalisation between attention and the feed-forward part.
EPSILON = 1e-6


class HordeLayerModel:
    """Patches a model to draw on a transparent background."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "layer_model": (listed(LAYERS),)}}

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "change"
    CATEGORY = "horde"

    def change(self, model, layer_model):
        import comfy.utils

        state = comfy.utils.load_torch_file(path_of(LAYERS, layer_model), safe_load=True)
        changed = model.clone()
        if all(name.startswith(CONVOLUTION) for name in state):
            _change_weights(changed, _convolutions(state), layer_model)
        elif all(name.startswith(ATTENTION) for name in state):
            _change_attention(changed, state, layer_model)
        else:
            raise ValueError(f"{layer_model} holds no layered diffusion of a known kind")
        return (changed,)


def _convolutions(state):
    """Weight of the model → what is added to it."""
    for name, tensor in state.items():
        weight, kind, _ = name.split("::")
        if kind != "diff":
            raise ValueError(f"{weight} is to be changed by {kind!r}, which is unknown")
        yield weight, tensor


def _change_weights(model, differences, source):
    """Raises ValueError for patches of another model, which ComfyUI would silently leave out."""
    shapes = {name: weight.shape for name, weight in model.model.state_dict().items()}
    patches = {}
    for name, tensor in differences:
        if shapes.get(name) != tensor.shape:
            raise ValueError(f"{source} is not for this model: {name} has other sizes, or is not there")
        patches[name] = ("diff", (tensor,))
    model.add_patches(patches)


def _change_attention(model, state, source):
    """Replaces the projections of every attention layer and appends a per-position layer."""
    from comfy.model_patcher import ModelPatcher

    layers = _attention_layers(model.model.diffusion_model)
    numbers = {int(name.removeprefix(ATTENTION).split(".")[0]) for name in state}
    if numbers != set(range(len(layers))):
        raise ValueError(f"{source} changes {len(numbers)} attention layers, but this model has {len(layers)}")
    _change_weights(model, _projections(layers, state), source)
    maps = _Maps(layers, state)
    # A model of its own for ComfyUI, so that its memory is counted.
    model.set_additional_models("horde_layers", [ModelPatcher(maps, model.load_device, model.offload_device)])
    for kind, before, after in (
        ("attn1", model.set_model_attn1_patch, model.set_model_attn1_output_patch),
        ("attn2", model.set_model_attn2_patch, model.set_model_attn2_output_patch),
    ):
        remember, follow = _hooks(maps, kind)
        before(remember)
        after(follow)


def _attention_layers(unet):
    """Names in the file's order: input blocks, output blocks, then the middle block."""
    names = [name for name, _ in unet.named_modules() if name.endswith((".attn1", ".attn2"))]
    return sorted(names, key=lambda name: name.startswith("middle_block."))


def _projections(layers, state):
    for number, layer in enumerate(layers):
        for theirs, ours in PROJECTIONS.items():
            low_rank = [state[f"{ATTENTION}{number}.{theirs}_lora.0.{part}.weight"] for part in ("up", "down")]
            up, down = (matrix.float() for matrix in low_rank)
            yield f"diffusion_model.{layer}.{ours}.weight", (up @ down).to(low_rank[0].dtype)


class _Maps(torch.nn.Module):
    """What each position goes through after its attention layer.

    The file describes attention between several layers of one picture. With a single layer there is nothing to choose
    between: of the attention remain its value and output, which are one affine map, together with the input's and the
    normalisation's.
    """

    def __init__(self, layers, state):
        super().__init__()
        self.names = {layer: f"map_{number}" for number, layer in enumerate(layers)}
        for number, layer in enumerate(layers):
            weights = {
                part: state[f"{ATTENTION}{number}.temporal_{part}"].float()
                for part in (f"{letter}.{kind}" for letter in "nivo" for kind in ("weight", "bias"))
            }
            matrix, offset = torch.diag(weights["n.weight"]), weights["n.bias"]
            for letter in "ivo":
                matrix = weights[f"{letter}.weight"] @ matrix
                offset = weights[f"{letter}.weight"] @ offset + weights[f"{letter}.bias"]
            affine = torch.nn.Linear(len(offset), len(offset))
            affine.weight = torch.nn.Parameter(matrix.half(), requires_grad=False)
            affine.bias = torch.nn.Parameter(offset.half(), requires_grad=False)
            self.add_module(self.names[layer], affine)

    def forward(self, layer, positions):
        affine = self.get_submodule(self.names[layer])
        normed = functional.layer_norm(positions, positions.shape[-1:], eps=EPSILON)
        return functional.linear(normed, affine.weight.to(normed), affine.bias.to(normed))


def _hooks(maps, kind):
    """Hooks before and after each attention layer of one kind; the first keeps the input for the second."""
    entered = []

    def name_of(options):
        (side, number), index = options["block"], options.get("block_index", 0)
        folder = {"input": f"input_blocks.{number}", "output": f"output_blocks.{number}", "middle": "middle_block"}[
            side
        ]
        return f"{folder}.1.transformer_blocks.{index}.{kind}"

    def remember(positions, context, value, _options):
        entered[:] = [positions]
        return positions, context, value

    def follow(attended, options):
        [positions] = entered
        entered.clear()
        return attended + maps(name_of(options), positions + attended)

    # Functions, because a clone of the model copies everything else.
    return remember, follow

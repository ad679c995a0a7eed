"""Generate docs/payload.md from the code that reads payloads: `python -m tools.payload_page > docs/payload.md`."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from worker.errors import JobNotServable
from worker.workflows.bind import ITEM
from worker.workflows.families import TRAITS
from worker.workflows.library import Library
from worker.workflows.payload import read_request
from worker.workflows.request import ExtraSource, RenderRequest, ServedModel, SourceImage
from worker.workflows.samplers import DEFAULT_SAMPLER, OPTIONS, RENAMED, SAME_NAME, SCHEDULERS, Option
from worker.workflows.template_selection import Selection, select
from worker.workflows.types import Dialect, Family, Feature, Mode

#: Beyond every bound, to learn the bounds.
TOO_LITTLE, TOO_MUCH = -(2**40), 2**40


class Entry(NamedTuple):
    """One field of a payload: what it is called in a RenderRequest, if it is one value there, and what is done."""

    name: str
    field: str
    text: str
    #: other values of the request that follow from it
    also: tuple[str, ...] = ()


ENTRIES = (
    Entry(
        "prompt",
        "prompt",
        "Split at `###`: the first part is the prompt, the second the negative prompt. The seed chooses one option of "
        "`{a|b|c}`, innermost braces first. Embeddings and trigger words are added in front. In every prompt, what a "
        "text encoder can't read is changed and reported: weights beyond ±10, more than 64 nested parentheses, "
        "`embedding:` without a name, characters after the first 20,000.",
    ),
    Entry(
        "negative_prompt",
        "negative_prompt",
        "Used if the prompt has no negative part. Not encoded at cfg 1, where only the `_cfg_pp` samplers read it.",
    ),
    Entry(
        "seed",
        "seed",
        "A decimal number of 64 bits for the whole batch. If memory is too small for the batch, each image is rendered "
        "by itself and submitted with its own seed, counting up. Anything else is replaced by a number computed from "
        "the payload, so that a retry gives the same image.",
    ),
    Entry(
        "ddim_steps",
        "steps",
        "Sampling steps. Stable Cascade's first stage gets 67 %, its second 33 %.",
    ),
    Entry(
        "cfg_scale",
        "cfg",
        "Classifier-free guidance in every family; Flux's distilled guidance keeps the model's default. Stable "
        "Cascade's second pass always uses 4.",
    ),
    Entry(
        "sampler_name",
        "sampler",
        "See the table of samplers.",
    ),
    Entry(
        "karras",
        "",
        "The scheduler `karras` instead of `normal`, in families without a scheduler of their own.",
    ),
    Entry(
        "scheduler",
        "scheduler",
        f"One of {', '.join(sorted(SCHEDULERS))}; `align_your_steps` and `gits` for SD 1 and SDXL, whose noise levels "
        "they were made for. Any other name is as none. Takes precedence over `karras`. See the table of families.",
    ),
    Entry(
        "sampler_eta",
        "",
        "This and the following change what the sampler does, where it takes them (see the table of samplers), and are "
        "left out elsewhere. Numbers are brought within its bounds, unknown names dropped; a bare ComfyUI without our "
        "nodes does without.",
        also=("sampler_options",),
    ),
    *(
        Entry(f"sampler_{name}", "", "As `sampler_eta`.", also=("sampler_options",))
        for name in sorted({name for options in OPTIONS.values() for name in options} - {"eta"})
    ),
    Entry(
        "flow_shift",
        "",
        "0.01 to 100: where on the way from noise to picture the steps are spent, for flow models (Flux, Qwen-Image, "
        "Z-Image, Anima, Krea 2). For others it changes nothing, which is reported.",
        also=("flow_shift",),
    ),
    Entry(
        "width",
        "width",
        "Rounded up to a multiple of 64. Stable Cascade renders no side below 256.",
        also=("first_width",),
    ),
    Entry(
        "height",
        "height",
        "As `width`.",
        also=("first_height",),
    ),
    Entry(
        "n_iter",
        "batch",
        "Images in one latent batch. If it differs from the number of the job's ids, the ids count.",
    ),
    Entry(
        "denoising_strength",
        "denoise",
        "For the only or first pass. 1 without a source image, or if it could not be fetched.",
    ),
    Entry(
        "clip_skip",
        "clip_skip",
        "The CLIP layer to stop at, counted from the end; 1 is set explicitly too. SD 1, SD 2 and SDXL only.",
    ),
    Entry(
        "hires_fix",
        "hires",
        "A second pass over the enlarged first one. Ignored if the image is not larger than the model's own size, with "
        "a mask, and in families without it (see there).",
        also=("hires_steps",),
    ),
    Entry(
        "hires_fix_denoising_strength",
        "hires_denoise",
        "For the second pass. With a source image, also for a ControlNet, a `denoising_strength` in the payload is the "
        "default.",
    ),
    Entry(
        "hires_fix_first_pass_width",
        "",
        "For the first pass, at most `width`, rounded up to a multiple of 64. Default: the family's own size in the "
        "image's aspect ratio.",
        also=("first_width",),
    ),
    Entry(
        "hires_fix_first_pass_height",
        "",
        "The same, at most `height`.",
        also=("first_height",),
    ),
    Entry(
        "hires_fix_second_pass_steps",
        "",
        "1 to 500. Default: a part of `ddim_steps` that grows with image size and denoising. Stable Cascade always "
        "uses its two stages' shares of `ddim_steps`.",
        also=("hires_steps",),
    ),
    Entry(
        "loras",
        "loras",
        "At most five, applied to the model and every text encoder with the strengths `model` and `clip`, -10 to "
        "10. `is_version` makes `name` a version id of CivitAI. `inject_trigger` adds trigger words of the LoRA in "
        "front of the prompt: `any` (chosen by the seed), `all`, or the most similar one. A LoRA that can't be had "
        "is left out and reported.",
    ),
    Entry(
        "tis",
        "",
        "At most twenty textual inversions. `inject_ti` adds `(embedding:NAME:STRENGTH)` in front of the prompt or "
        "after the negative prompt; without it the prompt names `embedding:NAME` itself. One that can't be had is "
        "left out and reported.",
    ),
    Entry(
        "control_type",
        "control_type",
        "A ControlNet guided by a map made from the source image; sampling does not start from the image. `hough` is "
        "`mlsd`. A job with an unknown type, or one the model has no ControlNet for (inpainting models have none), is "
        "not served. With Flux `canny`, `depth`, `hed` and `openpose` where you have a file for it "
        "([models](models.md#controlnets-for-flux)); the Horde in service sends none for Flux. Ignored without an "
        "image.",
        also=("control_file", "control_union_type"),
    ),
    Entry(
        "control_strength",
        "control_strength",
        "Strength of the ControlNet.",
    ),
    Entry(
        "image_is_control",
        "image_is_control",
        "The source image is the map.",
    ),
    Entry(
        "return_control_map",
        "return_control_map",
        "Only the map is returned.",
    ),
    Entry(
        "tiling",
        "tiling",
        "Opposite edges match. Ignored by families whose template says so.",
    ),
    Entry(
        "transparent",
        "transparent",
        "A transparent background, with LayerDiffuse; SD 1 and SDXL only.",
    ),
    Entry(
        "post_processing",
        "post_processing",
        "Each once, in this order: face fixers, upscalers, `strip_background`. Left out and reported: unknown "
        "names, and upscalers that would exceed 16,383 pixels on a side, exceed the size of 8192 x 8192, or take "
        "too long.",
        also=("face_fixers", "upscalers"),
    ),
    Entry(
        "facefixer_strength",
        "face_fixer_strength",
        "How much of the restored face is blended in.",
    ),
    Entry(
        "workflow",
        "workflow",
        "A template that serves this workflow; `auto_detect` means none.",
    ),
    Entry(
        "extra_texts",
        "extra_texts",
        "Texts by `reference` for the workflow `qr_code`: content (`qr_code` or `qr_text`), position (`x_offset`, "
        "`y_offset`), border and style (`qr_border`, `module_drawer`), a prompt for the function patterns "
        "(`function_layer_prompt`), `protocol`.",
        also=("qr.text", "qr.x", "qr.y", "qr.border", "qr.drawer", "qr.prompt"),
    ),
    Entry(
        "use_nsfw_censor",
        "",
        "The safety checker withholds images that show nudity.",
    ),
    Entry(
        "special",
        "",
        "Ignored: the server uses it.",
    ),
    Entry(
        "seed_variation",
        "",
        "Ignored: the server has added it to the seed.",
    ),
    Entry(
        "post_processing_order",
        "",
        "Ignored: horde-sdk has it, and no server keeps it. The order is that of its default, `facefixers_first`.",
    ),
)

INTRODUCTION = """\
# Payload fields

Every field that the Horde sends with an image job, and what this worker does with it. No value is an error: one that
makes no sense becomes the default, one out of range the nearest bound. Field names are read in any case; unknown
fields are ignored. Booleans may be words: `"false"`, `"no"`, `"0"` mean no. The same payload always gives the same
graph.

A job that no template can do as asked goes back with the reason; it is never rendered as something else. The table of
families lists what a template ignores on purpose. `horde-bridge workflows explain JOB.json` explains one job.

The server in service (5.1) sends no `flow_shift`, no `sampler_*` and no `scheduler` by name; requesters with horde-sdk
0.33 and servers after it do. They are read all the same, so that both are served. The pop tells newer servers by
`sampler_execution_contract_version` 1.0 that `k_dpm_adaptive` ends after 5/4 of the steps, rounded up, where the
engine has our node pack.

Written by `python -m tools.payload_page`.
"""

PICTURES = """\
## Source images

`source_image`, `source_mask` and `extra_source_images` are fetched into memory and never written to disk. The source
image is scaled to the size of the (first) pass whatever its aspect ratio; the extra images of a remix keep their
size. White in the mask is repainted, black is kept; without a mask the image's own transparency is the mask. An image
that can't be fetched or read is left out and reported; the job continues without it.

`source_processing` and the present images decide the mode. Without an image it is always `txt2img`, also where the
server writes `img2img`. Inpainting models always inpaint: without a mask everything is repainted, without an image
from noise. Inpainting and outpainting without a mask is `img2img`, and reported. `remix` is for Stable Cascade;
elsewhere it is `img2img`. Outpainting adds no border: the requester sends the enlarged image with its mask.

The fragments that do it, besides the one that loads the image:
"""


NEAREST = """\
An engine without a sampler takes the nearest that it has: `heun` for `exp_heun_2_x0`, `seeds_2` for its `_sde`,
`dpm_adaptive` for `horde_dpm_adaptive`; without a schedule, `karras`.
"""


def payload_page(library: Library) -> str:
    """The page."""
    parts = (
        INTRODUCTION,
        "## Fields\n",
        _table(("field", "default", "bounds", "sets", "meaning"), _field_rows(library)),
        PICTURES,
        _table(("mode", "family", "fragments"), _picture_rows(library)),
        "## Families\n",
        _table(("family", "templates", "second pass", "scheduler", "ignored"), _family_rows(library)),
        f"## Samplers\n\nAn unknown name becomes `{DEFAULT_SAMPLER}`.\n",
        _table(("payload", "ComfyUI", "takes of `sampler_*`"), _sampler_rows()),
        NEAREST,
    )
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _field_rows(library: Library) -> Iterator[Sequence[str]]:
    for entry in ENTRIES:
        reaches = ", ".join(f"`{place}`" for place in _places(library, entry))
        yield f"`{entry.name}`", _default(entry), _bounds(entry), reaches, entry.text


def _read(**payload: object) -> RenderRequest:
    payload = {"seed": "1", "width": 512, "height": 512, **payload}
    model, source = ServedModel("", Family.STABLE_DIFFUSION_1, {}), SourceImage("", 1, 1)
    # Over a picture, for without one some fields are of no account.
    return read_request(payload, model=model, source_processing=Mode.IMG2IMG.value, source=source)


def _default(entry: Entry) -> str:
    if not entry.field or entry.name == "seed":
        return ""
    value = getattr(_read(**{entry.name: None}), entry.field)
    match value:
        case bool():
            return "yes" if value else "no"
        case None | "" | ():
            return "none"
        case _:
            return f"`{value}`"


def _bounds(entry: Entry) -> str:
    """Learned by asking for too little and too much."""
    if not entry.field or entry.name == "seed":
        return ""
    large: dict[str, object] = {"hires_fix": True, "width": 1024, "height": 1024} if "hires" in entry.field else {}
    low, high = (getattr(_read(**{**large, entry.name: value}), entry.field) for value in (TOO_LITTLE, TOO_MUCH))
    is_number = isinstance(low, int | float) and not isinstance(low, bool)
    return f"{low:g} to {high:g}" if is_number else ""


def _places(library: Library, entry: Entry) -> list[str]:
    """Class and input of every node that gets the field, or something of its elements."""
    names = {entry.field, *entry.also} - {""}
    each = [piece.name for piece in library.fragments if piece.manifest.each in names]
    places = {
        f"{piece.graph[binding.place.node]['class_type']}.{binding.place.name}"
        for piece in (*library.templates, *library.fragments)
        for binding in piece.bindings
        if binding.field in names or (piece.name in each and binding.field.startswith(f"{ITEM}."))
    }
    return sorted(places)


def _select(library: Library, model: ServedModel, processing: str, source: SourceImage | None) -> Selection | None:
    extras = [ExtraSource(SourceImage("", 1, 1))] if processing == Mode.REMIX.value else []
    request = read_request(
        {"seed": "1", "n_iter": 2},
        model=model,
        source_processing=processing,
        source=source,
        extra_sources=extras,
    )
    try:
        return select(library, request)
    except JobNotServable:
        return None


def _picture_rows(library: Library) -> Iterator[Sequence[str]]:
    asked = {
        "img2img": ("img2img", False),
        "img2img with a mask": ("img2img", True),
        "inpainting, outpainting": ("inpainting", True),
        "remix": ("remix", False),
    }
    for text, (processing, masked) in asked.items():
        done: dict[str, list[str]] = {}
        for name, model in _models(library):
            if processing == Mode.REMIX.value and not TRAITS[model.family].blends_pictures:
                continue
            if model.inpainting and processing != Mode.INPAINTING.value:
                continue
            selection = _select(library, model, processing, SourceImage("", 1, 1, has_alpha=masked))
            if selection:
                fragments = [
                    each.name.rpartition("/")[2]
                    for each in selection.fragments[Dialect.PACK]
                    if each.when not in {Feature.OUTPUT, Feature.PICTURE, Feature.REPEAT}
                ]
                names = done.setdefault(", ".join(f"`{name}`" for name in fragments), [])
                if name not in names:
                    names.append(name)
        for fragments_text, families in done.items():
            yield text, ", ".join(families), fragments_text


def _models(library: Library) -> Iterator[tuple[str, ServedModel]]:
    """A model for every template and family, with a name for it; and an inpainting one where there are such."""
    for template in library.templates:
        for family in template.manifest.serves.families:
            files = dict.fromkeys(template.files, "file")
            yield family.value, ServedModel("", family, files)
            if TRAITS[family].fills_grey:
                yield "inpainting models", ServedModel("", family, files, inpainting=True)


def _family_rows(library: Library) -> Iterator[Sequence[str]]:
    for family in Family:
        traits = TRAITS[family]
        templates = [
            template
            for template in library.templates
            if family in template.manifest.serves.families
            and not (template.manifest.serves.features or template.manifest.serves.workflows)
        ]
        ignored = sorted({name for template in templates for name in template.manifest.ignores})
        above = f", above {traits.hires_above_px} px" if traits.hires_above_px else ""
        own = f"`{traits.scheduler}`" if traits.scheduler else "as asked"
        yield (
            family.value,
            ", ".join(f"`{template.name}`" for template in templates),
            f"yes{above}" if traits.hires else "no",
            f"{own}, unless another is asked for by `scheduler`" if traits.scheduler_may_be_asked else own,
            ", ".join(f"`{name}`" for name in ignored),
        )


def _sampler_rows() -> Iterator[Sequence[str]]:
    for name, ours in RENAMED.items():
        yield f"`{name}`", f"`{ours}`", _options(ours)
    for taken in dict.fromkeys(map(_options, sorted(SAME_NAME))):
        yield ", ".join(f"`{name}`" for name in sorted(SAME_NAME) if _options(name) == taken), "the same", taken


def _options(sampler: str) -> str:
    return ", ".join(f"`{name}` {_range(option)}" for name, option in OPTIONS[sampler].items())


def _range(option: Option) -> str:
    return " or ".join(option.names) if option.names else f"{option.least:g} to {option.most:g}"


if __name__ == "__main__":
    sys.stdout.write(payload_page(Library.load()))

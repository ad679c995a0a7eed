"""What becomes of a payload, as text, told by the code that does it.

`python -m tools.payload_page > docs/payload.md` writes the documentation anew.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from worker.errors import JobNotServable
from worker.workflows.bind import ITEM
from worker.workflows.families import TRAITS
from worker.workflows.library import Library
from worker.workflows.payload import read_request
from worker.workflows.request import ExtraSource, RenderRequest, ServedModel, SourceImage
from worker.workflows.samplers import DEFAULT_SAMPLER, RENAMED, SAME_NAME, SCHEDULERS
from worker.workflows.select import Selection, select
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
        "Split at `###`: the part before is the prompt, the next one the negative prompt. Of `{a|b|c}` one is "
        "drawn by the seed, from the innermost braces outwards; then embeddings and trigger words are written "
        "before it. What a text encoder can't read is changed and told, in every prompt: weights beyond ±10, nesting "
        "beyond 64 parentheses, `embedding:` without a name, characters beyond the first 20,000.",
    ),
    Entry(
        "negative_prompt",
        "negative_prompt",
        "Where the prompt has no negative part. Not encoded at cfg 1, where no sampler but the `_cfg_pp` ones "
        "reads it.",
    ),
    Entry(
        "seed",
        "seed",
        "A decimal number of 64 bits, for the whole batch: the images of a batch are different draws of one "
        "seed. Where memory was too short for the batch each image is made by itself, and handed in with a seed of its "
        "own, one more than the last. Anything else becomes a number made from the payload, so that a second try "
        "gives the same.",
    ),
    Entry(
        "ddim_steps",
        "steps",
        "Steps of the sampler. Stable Cascade's first stage gets 67 % of them, its second 33 %.",
    ),
    Entry(
        "cfg_scale",
        "cfg",
        "Real guidance in every family; Flux's distilled one stays at the model's default. Stable Cascade's second "
        "pass has 4, whatever is asked.",
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
        f"Of {', '.join(sorted(SCHEDULERS))}; wins over `karras`. See the table of families.",
    ),
    Entry(
        "width",
        "width",
        "Rounded up to a multiple of 64. Stable Cascade draws no side below 256.",
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
        "Images of one latent batch; as many as the job has ids, if they differ.",
    ),
    Entry(
        "denoising_strength",
        "denoise",
        "Of the only or the first pass. 1 where there is no source picture, or it could not be had.",
    ),
    Entry(
        "clip_skip",
        "clip_skip",
        "The last layer of CLIP that counts, exactly, for 1 too. SD 1, SD 2 and SDXL only.",
    ),
    Entry(
        "hires_fix",
        "hires",
        "A second pass over the enlarged first one. Ignored where the picture is not larger than the model's "
        "own size, with a mask, and in families without it (see there).",
        also=("hires_steps",),
    ),
    Entry(
        "hires_fix_denoising_strength",
        "hires_denoise",
        "Of the second pass; with a source picture, also one that only guides, a `denoising_strength` in the payload "
        "is the default.",
    ),
    Entry(
        "hires_fix_first_pass_width",
        "",
        "Of the first pass, up to `width`, rounded up to a multiple of 64. Without it the family's own size in the "
        "shape of the picture.",
        also=("first_width",),
    ),
    Entry(
        "hires_fix_first_pass_height",
        "",
        "The same, up to `height`.",
        also=("first_height",),
    ),
    Entry(
        "hires_fix_second_pass_steps",
        "",
        "1 to 500. Without it some of `ddim_steps`, more for a larger picture and a stronger denoising; in Stable "
        "Cascade always its two stages' shares of all of them.",
        also=("hires_steps",),
    ),
    Entry(
        "loras",
        "loras",
        "Up to five, each on the model and on every text encoder, by `model` and `clip`, within -10 and 10. "
        "`is_version` makes `name` a version id of CivitAI. `inject_trigger` writes `any` (drawn by the "
        "seed), `all`, or the most similar of the LoRA's trigger words before the prompt. One that can't be "
        "had is left out and told.",
    ),
    Entry(
        "tis",
        "",
        "Up to twenty textual inversions. `inject_ti` writes `(embedding:NAME:STRENGTH)` before the prompt or "
        "after the negative one; without it the prompt names `embedding:NAME` itself. One that can't be had "
        "is left out and told.",
    ),
    Entry(
        "control_type",
        "control_type",
        "A ControlNet is guided by a map made of the source picture; the picture is not painted over. `hough` "
        "is `mlsd`. A type that is unknown, or that the model has no network for, as no inpainting model has, is not "
        "served. Without a picture it is ignored.",
        also=("control_file",),
    ),
    Entry(
        "control_strength",
        "control_strength",
        "How much the ControlNet counts.",
    ),
    Entry(
        "image_is_control",
        "image_is_control",
        "The source picture is the map.",
    ),
    Entry(
        "return_control_map",
        "return_control_map",
        "The map comes back, and nothing is drawn.",
    ),
    Entry(
        "tiling",
        "tiling",
        "Opposite edges fit. Ignored by families whose template says so.",
    ),
    Entry(
        "transparent",
        "transparent",
        "Drawn on nothing, with LayerDiffuse; SD 1 and SDXL only.",
    ),
    Entry(
        "post_processing",
        "post_processing",
        "Each once, in this order: face fixers, upscalers, `strip_background`. An unknown name is left out and told, "
        "and so is an upscaler that would make a side longer than 16,383 pixels, a picture larger than 8192 x 8192, "
        "or take too long.",
        also=("face_fixers", "upscalers"),
    ),
    Entry(
        "facefixer_strength",
        "face_fixer_strength",
        "How much of the mended face is blended in.",
    ),
    Entry(
        "workflow",
        "workflow",
        "A template that serves this workflow; `auto_detect` means none.",
    ),
    Entry(
        "extra_texts",
        "extra_texts",
        "Texts by `reference`, for the workflow `qr_code`: what the code says (`qr_code` or `qr_text`), where it is "
        "(`x_offset`, `y_offset`), its border and drawing (`qr_border`, `module_drawer`), a prompt for the patterns "
        "around it (`function_layer_prompt`), `protocol`.",
        also=("qr.text", "qr.x", "qr.y", "qr.border", "qr.drawer", "qr.prompt"),
    ),
    Entry(
        "use_nsfw_censor",
        "",
        "The safety checker replaces what is not safe for work.",
    ),
    Entry(
        "special",
        "",
        "Ignored: it is for the server.",
    ),
    Entry(
        "seed_variation",
        "",
        "Ignored: the server has added it to the seed.",
    ),
)

INTRODUCTION = """\
# What becomes of a payload

Every field that the Horde sends with an image job, and what this worker makes of it. Nothing in a payload is an error:
what makes no sense becomes the default, what is out of range the nearest bound. Names of fields are taken in any case;
unknown ones are ignored. Truth values may be words: `"false"`, `"no"`, `"0"` mean no. The same payload always gives the
same graph.

A job that no template can do as asked is given back with the reason, never drawn as something else. What a template
leaves aside on purpose is in the table of families. `horde-bridge workflows explain JOB.json` tells it for one job.

The Horde's API has no `flow_shift` and none of `sampler_eta`, `sampler_s_noise`, `sampler_s_churn`, `sampler_s_tmin`,
`sampler_s_tmax`, `sampler_solver_type` and `sampler_order`, though other workers know them; here they are ignored.

Written by `python -m tools.payload_page`.
"""

PICTURES = """\
## Pictures

`source_image`, `source_mask` and `extra_source_images` are fetched into memory and never written to disk. The source
picture is stretched to the size of the (first) pass, whatever its shape; the extra ones of a remix keep theirs. White
in the mask is painted, black is kept; without a mask the picture's own transparency is it. A picture that can't be had
or read is left out and told: the job goes on without it.

What is done follows from `source_processing` and from what there is. Without a picture all of it is `txt2img`, also
where the server writes `img2img`. Inpainting models always inpaint: without a mask everything is painted, without a
picture over noise. In- and outpainting without a mask is `img2img`, and told. `remix` is for Stable Cascade; elsewhere
it is `img2img`. Outpainting adds no border: the requester sends the enlarged picture with its mask.

The fragments that do it, beside the one that fetches the picture:
"""


def payload_page(library: Library) -> str:
    """The page."""
    parts = (
        INTRODUCTION,
        "## Fields\n",
        _table(("field", "default", "bounds", "reaches", "what is done"), _field_rows(library)),
        PICTURES,
        _table(("asked", "of", "done by"), _picture_rows(library)),
        "## Families\n",
        _table(("family", "templates", "second pass", "scheduler", "left aside"), _family_rows(library)),
        f"## Samplers\n\nAn unknown name is `{DEFAULT_SAMPLER}`.\n",
        _table(("payload", "ComfyUI"), _sampler_rows()),
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
            if processing == Mode.REMIX.value and model.family is not Family.STABLE_CASCADE:
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
        yield f"`{name}`", f"`{ours}`"
    yield ", ".join(f"`{name}`" for name in sorted(SAME_NAME)), "the same"


if __name__ == "__main__":
    sys.stdout.write(payload_page(Library.load()))

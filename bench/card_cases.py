"""What is measured on a card, as data: the jobs of both sizes, models of the published sizes and tiny ones.

The tiny sizes exist so that everything can be tried on a CPU in minutes; their figures say nothing about a card.
"""

import argparse
import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from worker.demo.tiny.recipes import AUXILIARY_FILES, FULL_SIZE_AUXILIARY_FILES

#: Keys of bridgeData.yaml for a worker that takes all the jobs below.
SETTINGS: dict[str, Any] = {
    "max_power": 128,
    "max_batch": 8,
    "allow_img2img": True,
    "allow_controlnet": True,
    "allow_lora": True,
    "allow_post_processing": True,
}


@dataclass(frozen=True)
class Case:
    """Jobs of one kind. `models` take turns; `side` is width and height in pixels, `n` the images of a job."""

    name: str
    models: tuple[str, ...]
    side: int
    steps: int
    jobs: int
    n: int = 1
    #: fields that API and payload spell alike
    params: dict[str, Any] = field(default_factory=dict)
    #: further fields of the API's request, which only the worker's side can serve
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def only_worker(self) -> bool:
        """Whether there is no bare side: a source picture reaches a bare engine in another way."""
        return bool(self.body)

    def arguments(self, **more: Any) -> argparse.Namespace:
        """The case as the arguments that sides.py takes."""
        asked = {"side": self.side, "steps": self.steps, "jobs": self.jobs, "n": self.n}
        latencies = {"api_latency": 0.1, "upload_latency": 0.05}
        fixed = {"params": self.params, "body": self.body, "engine_threads": 0, **latencies}
        return argparse.Namespace(**{**asked, **fixed, **more})


@dataclass(frozen=True)
class Group:
    """Cases that one bare engine and one worker do, one after the other."""

    name: str
    cases: tuple[Case, ...]
    #: keys of bridgeData.yaml beside SETTINGS
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(model for case in self.cases for model in case.models))


@dataclass(frozen=True)
class Sizes:
    """Everything that differs between a card and a CPU. `files` are generated beside those of the models."""

    full: bool
    sd15: str
    sd15_b: str
    sdxl: str
    flux: str
    cascade: str
    sides: tuple[int, int, int]
    steps: tuple[int, int, int]
    jobs: int
    lora: str
    upscaler: str
    files: tuple[str, ...]
    #: a batch that a card with little free memory can't do at once
    heavy: tuple[int, int]

    @property
    def models(self) -> tuple[str, ...]:
        return (self.sd15, self.sd15_b, self.sdxl, self.flux, self.cascade)


FULL = Sizes(
    full=True,
    sd15="Full SD1.5",
    sd15_b="Full SD1.5 B",
    sdxl="Full SDXL",
    flux="Full Flux Schnell",
    cascade="Full Stable Cascade",
    sides=(512, 1024, 1024),
    steps=(20, 20, 4),
    jobs=12,
    lora="full_sd15",
    upscaler="RealESRGAN_x4plus",
    files=FULL_SIZE_AUXILIARY_FILES,
    heavy=(1024, 8),
)
SMALL = Sizes(
    full=False,
    sd15="Tiny SD1.5",
    sd15_b="Tiny SD1.5 B",
    sdxl="Tiny SDXL",
    flux="Tiny Flux Schnell",
    cascade="Tiny Stable Cascade",
    sides=(64, 64, 64),
    steps=(4, 2, 2),
    jobs=6,
    lora="tiny_sd15",
    upscaler="RealESRGAN_x4plus",
    files=("sd15_lora", "sdxl_lora", *AUXILIARY_FILES),
    heavy=(128, 4),
)


def groups(sizes: Sizes) -> tuple[Group, ...]:
    """All comparisons, in the order of their worth where the time runs out."""
    (side, large, flux_side), (steps, large_steps, flux_steps), jobs = sizes.sides, sizes.steps, sizes.jobs
    few = max(2, jobs // 3)
    sd15 = Case("plain", (sizes.sd15,), side, steps, jobs)
    sdxl = Case("plain", (sizes.sdxl,), large, large_steps, few)
    flux = Case("plain", (sizes.flux,), flux_side, flux_steps, few)
    return (
        Group("sd15", (
            sd15,
            Case("batch of 4", (sizes.sd15,), side, steps, few, n=4),
            Case("batch of 8", (sizes.sd15,), side, steps, few, n=8),
            Case("hires fix", (sizes.sd15,), 2 * side, steps, few, params={"hires_fix": True}),
            Case("lora", (sizes.sd15,), side, steps, few, params={"loras": [{"name": sizes.lora, "model": 1.0}]}),
            Case("upscaler", (sizes.sd15,), side, steps, few, params={"post_processing": [sizes.upscaler]}),
            Case("controlnet", (sizes.sd15,), side, steps, few,
                 params={"control_type": "canny"}, body={"source_image": picture(side)}),
        )),
        Group("sdxl", (sdxl, Case("batch of 4", (sizes.sdxl,), large, large_steps, few, n=4))),
        Group("flux", (flux,)),
        # The first stage needs 20 steps whatever the sizes.
        Group("stable cascade", (Case("plain", (sizes.cascade,), large, 20, few),)),
        Group("two families", (Case("in turn", (sizes.sd15, sizes.sdxl), side, steps, 2 * few),)),
        Group("three families", (Case("in turn", (sizes.sd15, sizes.sdxl, sizes.flux), side, flux_steps, 3 * few),)),
        Group("two threads", (sd15,), {"max_threads": 2}),
        Group("post-processing overlap", (
            Case("upscaler", (sizes.sd15,), side, steps, few, params={"post_processing": [sizes.upscaler]}),
        ), {"post_process_job_overlap": True}),
    )  # fmt: skip


def picture(side: int) -> str:
    """A source picture as the API takes it: base64 of a PNG with edges to find."""
    image = Image.new("RGB", (side, side), "white")
    image.paste("black", (side // 4, side // 4, 3 * side // 4, 3 * side // 4))
    out = io.BytesIO()
    image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def wanted(found: Sequence[Group], only: Sequence[str]) -> tuple[Group, ...]:
    """The groups that were named, or all of them. Raises SystemExit for a name that is none."""
    names = [group.name for group in found]
    if unknown := [name for name in only if name not in names]:
        raise SystemExit(f"no group {unknown[0]!r}; there are: {', '.join(names)}")
    return tuple(group for group in found if not only or group.name in only)

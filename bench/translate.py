"""From a payload to a graph: what the worker itself computes for each job before an engine can begin.

Payloads of all families and of the features that make graphs large, each many times, in turns. The figures are the
median and the 99th percentile of reading the payload, choosing the template and filling it in, over all of them.

    python bench/translate.py --turns 300
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from worker.workflows.library import Library
from worker.workflows.materialise import materialise
from worker.workflows.payload import read_request
from worker.workflows.request import LoraFile, SourceImage
from worker.workflows.request import ServedModel as Model
from worker.workflows.template_selection import select
from worker.workflows.types import Family

GOAL = {"p50_ms": 1.0, "p99_ms": 5.0}
PAYLOAD = {
    "prompt": "a red fox in the snow, (golden hour:1.2), {sharp|soft} focus ### blurry, text, watermark",
    "width": 512, "height": 512, "ddim_steps": 30, "n_iter": 1, "seed": "1234567890", "sampler_name": "k_euler_a",
    "cfg_scale": 7.5, "karras": True, "clip_skip": 1,
}  # fmt: skip
LARGE = {"width": 1024, "height": 1024}
FUSED = {"checkpoint": "model.safetensors"}
CASCADE = {"stage_b": "b.safetensors", "stage_c": "c.safetensors"}
SPLIT = {"unet": "unet.safetensors", "text_encoder": "encoder.safetensors", "vae": "vae.safetensors"}
LORAS = [LoraFile(f"style_{number}.safetensors", 0.8, 0.8) for number in range(5)]
PICTURE: dict[str, Any] = {"source": SourceImage("job-0", 640, 480), "source_processing": "img2img"}
CUT_OUT: dict[str, Any] = {
    "source": SourceImage("job-0", 640, 480, has_alpha=True),
    "source_processing": "inpainting",
}
#: name: family, files, what the payload says besides, what was found for it
CASES: dict[str, tuple[Family, dict[str, str], dict[str, Any], dict[str, Any]]] = {
    "plain": (Family.STABLE_DIFFUSION_1, FUSED, {}, {}),
    "batch": (Family.STABLE_DIFFUSION_1, FUSED, {"n_iter": 8}, {}),
    "loras": (Family.STABLE_DIFFUSION_1, FUSED, {}, {"loras": LORAS}),
    "hires": (Family.STABLE_DIFFUSION_1, FUSED, {"hires_fix": True, **LARGE}, {}),
    "img2img": (Family.STABLE_DIFFUSION_1, FUSED, {"denoising_strength": 0.5}, PICTURE),
    "inpainting": (Family.STABLE_DIFFUSION_1, FUSED, {}, CUT_OUT),
    "control": (Family.STABLE_DIFFUSION_1, FUSED, {"control_type": "canny"}, PICTURE),
    "everything": (
        Family.STABLE_DIFFUSION_1,
        FUSED,
        {"hires_fix": True, "control_type": "depth", "n_iter": 4, **LARGE},
        {**PICTURE, "loras": LORAS},
    ),
    "sdxl": (Family.STABLE_DIFFUSION_XL, FUSED, {**LARGE, "clip_skip": 2}, {"loras": LORAS[:2]}),
    "cascade": (Family.STABLE_CASCADE, CASCADE, LARGE, {}),
    "flux": (Family.FLUX_SCHNELL, FUSED, {**LARGE, "cfg_scale": 1, "ddim_steps": 4}, {"loras": LORAS[:1]}),
    "qwen": (Family.QWEN_IMAGE, SPLIT, LARGE, {}),
    "z_image": (Family.Z_IMAGE_TURBO, SPLIT, LARGE, {}),
}


def translator(library: Library, name: str) -> Callable[[], object]:
    family, files, says, found = CASES[name]
    model = Model(name, family, files)
    payload = {**PAYLOAD, **says}

    def translate() -> object:
        request = read_request(payload, model=model, **found)
        return materialise(select(library, request), request)

    return translate


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=300)
    arguments = parser.parse_args()
    library = Library.load()
    took: dict[str, list[float]] = {name: [] for name in CASES}
    translators = {name: translator(library, name) for name in CASES}
    for turn in range(arguments.turns + 1):
        for name, translate in translators.items():
            began = time.perf_counter()
            translate()
            if turn:  # the first fills caches that live as long as the worker
                took[name].append(1000 * (time.perf_counter() - began))
    ordered = sorted(milliseconds for each in took.values() for milliseconds in each)
    figure = {"p50_ms": statistics.median(ordered), "p99_ms": ordered[int(0.99 * len(ordered))]}
    print(
        json.dumps(
            {
                "name": "translate",
                "figure": {key: round(value, 3) for key, value in figure.items()},
                "goal": GOAL,
                "meets": all(figure[key] <= GOAL[key] for key in GOAL),
                "p50_ms_by_case": {name: round(statistics.median(each), 3) for name, each in took.items()},
                "translations": len(ordered),
            }
        )
    )


if __name__ == "__main__":
    main()

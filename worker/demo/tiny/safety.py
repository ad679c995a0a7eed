"""The safety child with horde-safety's real code and random weights, run by the engine's Python.

    python safety.py FOLDER_OF_THE_CHILD [--device cpu|cuda] [--full-size]

CLIP keeps its inputs and outputs and loses layers and width, unless it is to have its full size; DeepDanbooru has one
size only and is all zeros. What they find means nothing: for tests and measurements, never for a Horde.
"""

import argparse
import sys
from functools import partial


def shrink(config: dict) -> dict:
    """ViT-L-14 for the same images and texts, a thousandth of its size."""
    vision = {**config["vision_cfg"], "layers": 1, "width": 64}
    text = {**config["text_cfg"], "layers": 1, "width": 64, "heads": 1}
    return {**config, "embed_dim": 32, "vision_cfg": vision, "text_cfg": text}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("child")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full-size", action="store_true")
    options = parser.parse_args()
    sys.path.insert(0, options.child)
    import aesthetic
    import clip_interrogator.clip_interrogator as captions
    import image_checks
    import service
    import torch
    from horde_safety import deep_danbooru_model as danbooru
    from open_clip import factory

    configs = factory._MODEL_CONFIGS  # noqa: SLF001 - what is meant for this adds models, and changes none
    if not options.full_size:
        configs["ViT-L-14"] = shrink(configs["ViT-L-14"])
    make = captions.open_clip.create_model_and_transforms

    def make_random(name: str, **options):
        return make(name, **{**options, "pretrained": None, "cache_dir": None})

    def blank_drawings(device: str):
        with torch.device("meta"):
            model = danbooru.DeepDanbooruModel(initial_device=device)
        model.to_empty(device=device)
        for weights in model.parameters():
            weights.data.zero_()
        model.tags = ["rating:safe", "rating:questionable", "rating:explicit"]
        return model.eval()

    captions.open_clip.create_model_and_transforms = make_random
    danbooru.get_deep_danbooru_model = blank_drawings
    torch.manual_seed(1)
    service.serve(partial(image_checks.build, options.device, aesthetic.Estimator(None)))


if __name__ == "__main__":
    main()

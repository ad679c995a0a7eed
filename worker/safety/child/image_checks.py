"""Loads horde-safety and runs its checks.

DeepDanbooru looks at drawings, OpenAI's CLIP at everything. horde-safety fetches both itself when they are missing,
into `clip_blip` below AIWORKER_CACHE_HOME.
"""

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aesthetic import Estimator
from PIL import Image
from service import CheckImage, Failed, Say

#: Seconds between two reports on a download.
TELL_EVERY_S = 5.0
NO_PACKAGES = "Run update-runtime. Into a Python of your own: pip install --no-deps -r worker/engine/lock/safety.txt"
#: Characters of a library's error text that are shown; some hold a whole request.
LONGEST_REASON = 160
NO_WEIGHTS = (
    "Check the network and the room on the disk. Without network, copy the folder clip_blip from another worker's "
    "models folder into this one's."
)


def build(device: str, estimator: Estimator, say: Say) -> CheckImage:
    """Load everything and use each model once. Returns the function that checks an image. Raises Failed."""
    try:
        import clip_interrogator.clip_interrogator as captions
        import horde_safety
        from horde_safety import deep_danbooru_model as danbooru
        from horde_safety.interrogate import get_interrogator_no_blip
        from horde_safety.nsfw_checker_class import NSFWChecker
    except ImportError as error:
        raise Failed(f"horde-safety can't be imported: {error}.", NO_PACKAGES) from error
    folder = Path(horde_safety.CACHE_FOLDER_PATH)
    # Tables of 100,000 phrases for captions take a CPU hours, and no check reads them.
    captions.LabelTable = _NoTable
    try:
        with telling(say, "DeepDanbooru", folder):
            drawings = _drawings(danbooru, device)
        with telling(say, "CLIP ViT-L-14", folder):
            interrogator = get_interrogator_no_blip(device=device)
    except Exception as error:  # whatever its libraries raise: no network, no room, a damaged file
        why = " ".join(str(error).split())
        why = why if len(why) <= LONGEST_REASON else f"{why[:LONGEST_REASON]}…"
        raise Failed(f"The safety checker's weights in {folder} cannot be loaded: {why}", NO_WEIGHTS) from error
    interrogator.image_to_features = once_per_image(interrogator.image_to_features)
    checker = NSFWChecker(interrogator, drawings)
    say("its first check")
    # Encodes the phrases that images are compared with now, not while the first job waits.
    blank = Image.new("RGB", (64, 64))
    checker.check_for_nsfw(blank)
    checker.check_for_nsfw_anime_only(blank)

    def check(header: Mapping[str, Any], pixels: bytes) -> Mapping[str, Any]:
        image = Image.frombytes(header["mode"], (header["width"], header["height"]), pixels).convert("RGB")
        result = checker.check_for_nsfw(image, prompt=header["prompt"], model_info=header["model"])
        if result is None:
            raise ValueError("horde-safety has no result")
        score = estimator.score(interrogator.image_to_features(image))
        return {"nsfw": result.is_nsfw, "csam": result.is_csam, "aesthetic": score}

    return check


def _drawings(danbooru: Any, device: str) -> Any:
    """The model for drawings. A broken download is deleted first: horde-safety would try to load it again and again."""
    path = danbooru.default_deep_danbooru_model_path
    if path.exists():
        try:
            danbooru.verify_deep_danbooru_model_hash(path)
        except Exception:  # its bare Exception for a hash that is another
            path.unlink()
    return danbooru.get_deep_danbooru_model(device=device)


class _NoTable:
    def __init__(self, *_: Any) -> None:
        pass


def once_per_image(features: Callable[[Image.Image], Any]) -> Callable[[Image.Image], Any]:
    """Cache the last image's features: horde-safety computes them twice, and they are nearly all of its work."""
    last: tuple[Any, Any] = (None, None)

    def remembered(image: Image.Image) -> Any:
        nonlocal last
        if last[0] is not image:
            last = (image, features(image))
        return last[1]

    return remembered


@contextmanager
def telling(say: Say, what: str, folder: Path):
    """Report what is being loaded, and the progress of a download while the folder grows."""
    done = threading.Event()
    before = size_of(folder)

    def watch() -> None:
        told = before
        while not done.wait(TELL_EVERY_S):
            if (size := size_of(folder)) > told:
                say(f"fetching {what}: {(size - before) / 1e6:.0f} MB")
                told = size

    say(f"loading {what}")
    watcher = threading.Thread(target=watch, name="progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def size_of(folder: Path) -> int:
    """Bytes in a folder; files that disappear meanwhile count as 0."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(path) / name).stat().st_size
            except OSError:
                continue
    return total

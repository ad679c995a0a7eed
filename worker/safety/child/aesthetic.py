"""How well a picture is liked, from the features that the safety check computes anyway: LAION's linear estimator.

One small file of weights for CLIP ViT-L-14, which may come while the child runs. Without it there is no score, and a
file that can't be used costs no verdict.
"""

import logging
import math
from pathlib import Path
from typing import Any

#: The published file has 4 kB.
MAX_BYTES = 64 * 1024
#: Length of the features of CLIP ViT-L-14.
WIDTH = 768
LOWEST, HIGHEST = 0.0, 10.0

logger = logging.getLogger(__name__)


class Estimator:
    """Weights are read when they are first there; those that can't be used are told of once."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._linear: tuple[Any, Any] | None = None

    def score(self, features: Any) -> float | None:
        """0 to 10 for one picture's features, 1 x 768; None without weights, or for features that are none."""
        if self._path is None or not self._path.is_file():
            return None
        try:
            weight, bias = self._linear = self._linear or _read(self._path)
            one = features.detach().float().cpu().reshape(-1)
            found = float(one @ weight / one.norm() + bias)
        except Exception as error:  # whatever torch says of a broken file: the verdict counts, the score does not
            logger.warning("no aesthetic scores: %s can't be used: %s", self._path, error)
            self._path = None
            return None
        return min(max(found, LOWEST), HIGHEST) if math.isfinite(found) else None


def _read(path: Path) -> tuple[Any, Any]:
    import torch

    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    state = torch.load(path, map_location="cpu", weights_only=True)
    weight, bias = state["weight"].float().reshape(-1), state["bias"].float().reshape(-1)
    if weight.shape != (WIDTH,) or bias.shape != (1,):
        raise ValueError(f"its weights have the shape {tuple(weight.shape)}, not ({WIDTH},)")
    return weight, bias[0]

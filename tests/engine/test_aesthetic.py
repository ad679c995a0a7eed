"""The aesthetic estimator of the safety child, in the engine's environment, on weights made here."""

from pathlib import Path

import pytest

from worker.safety.child_process import CHILD

from .forks import Forks

pytestmark = [pytest.mark.engine, pytest.mark.cpu]

SCRIPT = """
import json, sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
from aesthetic import Estimator
path = Path(sys.argv[2])
features = torch.nn.functional.normalize(torch.randn(1, 768, generator=torch.Generator().manual_seed(1)))
estimator = Estimator(path)
told = [estimator.score(features)]
weight = 20 * features
torch.save({"weight": weight, "bias": torch.tensor([-14.5])}, path)
# It comes while the child runs; the features' size does not count; half precision is as good.
told += [estimator.score(features), estimator.score(7 * features), estimator.score(features.half())]
told += [estimator.score(-features), Estimator(None).score(features), estimator.score(torch.zeros(1, 768))]
for broken in ({"weight": weight[:, :5], "bias": torch.zeros(1)}, {"bias": torch.zeros(1)}, [1, 2]):
    torch.save(broken, path)
    told.append(Estimator(path).score(features))
path.write_bytes(b"not weights")
told.append(Estimator(path).score(features))
path.write_bytes(bytes(70_000))
told.append(Estimator(path).score(features))
print(json.dumps(told))
"""


def test_scores_follow_the_features_and_a_broken_file_costs_none_but_the_score(
    in_engine: Forks, tmp_path: Path
) -> None:
    told = in_engine.run(SCRIPT, CHILD, tmp_path / "a.pth")
    absent, plain, larger, half, least, none, empty, *broken = told
    assert plain == pytest.approx(5.5, abs=0.01)
    assert larger == pytest.approx(plain, abs=0.01)
    assert half == pytest.approx(plain, abs=0.05)
    assert least == 0.0
    assert (absent, none, empty) == (None, None, None)
    assert broken == [None] * 5

"""Cutting out a subject, by the node's own functions in the engine's environment."""

import pytest

from worker.demo.tiny.recipes import TINY_FILES

from .test_node_modules import NODES, PREAMBLE

pytestmark = [pytest.mark.engine, pytest.mark.cpu]

CUT_OUT = """
import numpy as np
background = load("background")
background.MATTING_LIMIT_PX = 160 * 160
picture = np.zeros((320, 256, 3), np.uint8)
picture[:] = (90, 100, 110)
picture[100:220, 80:180] = (255, 0, 0)
cut = background._strip(picture.copy(), background._session(sys.argv[2])).astype(int)
inside, outside = (slice(140, 180), slice(120, 140)), (slice(0, 40), slice(0, 256))
print(json.dumps({
    "shape": cut.shape, "inside": int(cut[inside][..., 3].min()), "outside": int(cut[outside][..., 3].max()),
    "colours": int(np.abs(cut[..., :3] - picture).max()),
}))
"""


def test_a_picture_too_large_for_alpha_matting_is_cut_out_by_a_smaller_one_and_keeps_its_pixels(in_engine, tiny):
    said = in_engine.run(PREAMBLE + CUT_OUT, NODES, tiny.models / TINY_FILES["u2net"].path)
    assert said["shape"] == [320, 256, 4]
    assert said["inside"] > 250
    assert said["outside"] < 5
    assert said["colours"] == 0


REMBG = """
import os, tempfile, folder_paths, numba
background = load("background")
folder_paths.base_path = tempfile.mkdtemp()
access = os.access
os.access = lambda path, mode: "pymatting" not in str(path) and access(path, mode)
rembg = background._rembg()
compiled = sum(1 for _, _, files in os.walk(folder_paths.base_path) for file in files if file.endswith(".nbi"))
left = [name for name in sys.modules if name.startswith("pymatting")]
again = background._rembg() is rembg
print(json.dumps({"compiled": compiled, "left": left, "again": again}))
"""


def test_where_the_installation_can_not_be_written_what_is_compiled_is_kept_with_the_engine(in_engine):
    """In a container with a read-only root numba ended every job that cuts out a subject."""
    said = in_engine.run(PREAMBLE + REMBG, NODES)
    assert 5 < said["compiled"] < 15, "what rembg uses of pymatting, and no more"
    assert said["left"] == []
    assert said["again"]

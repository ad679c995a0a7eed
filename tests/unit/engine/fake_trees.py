"""Folders that pass for ComfyUI trees of some version, and run the scripted engine."""

from pathlib import Path

from worker.demo.engine import FOLDER
from worker.demo.engine.dialect import OLDER

#: Stands where ComfyUI's main.py stands; `{before}` is run first.
MAIN = """\
import runpy, sys
{before}
sys.argv += ["--dialect", {dialect!r}]
runpy.run_path({main!r}, run_name="__main__")
"""


def fake_tree(folder: Path, version: str = OLDER, *, dialect: str = OLDER, before: str = "") -> Path:
    """Make one. `before`: what its main.py does before it is the scripted engine."""
    folder.mkdir(parents=True)
    main = MAIN.format(before=before, dialect=dialect, main=str(FOLDER / "main.py"))
    (folder / "main.py").write_text(main, encoding="utf-8")
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n', encoding="utf-8")
    for name in ("nodes.py", "server.py", "folder_paths.py", "requirements.txt"):
        (folder / name).touch()
    return folder

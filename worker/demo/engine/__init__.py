"""A scripted engine: a real process that speaks ComfyUI's protocol without torch, and fails on demand.

`main.py` stands where ComfyUI's own main.py stands, so `EngineSettings(comfyui=FOLDER)` starts it. It takes time and
delivers pictures as told by a script (see script.py); its pictures are made up, their sizes and number are the graph's.
"""

import sys
from pathlib import Path

from worker.engine.process import EngineSettings

#: What to give as `EngineSettings.comfyui`.
FOLDER = Path(__file__).parent
#: Names the script where the command line does not, as for an engine that an owner's `comfyui_path` starts.
SCRIPT_VARIABLE = "SCRIPTED_ENGINE_SCRIPT"
#: The same for the version of ComfyUI whose dialect it speaks.
DIALECT_VARIABLE = "SCRIPTED_ENGINE_DIALECT"


def scripted_settings(
    base_directory: Path,
    *,
    script: Path | None = None,
    object_info: Path | None = None,
    dialect: str | None = None,
    with_node_pack: bool = True,
    start_timeout_s: float = 60.0,
) -> EngineSettings:
    """Settings that run the double on this very Python, its log beside the base directory's files.

    `script` may be written before or after the start; `object_info` replaces the snapshot of node classes,
    `dialect` is one of `worker.demo.engine.dialect.DIALECTS`.
    """
    arguments: list[str] = []
    if script is not None:
        arguments += ["--script", str(script)]
    if object_info is not None:
        arguments += ["--object-info", str(object_info)]
    if dialect is not None:
        arguments += ["--dialect", dialect]
    return EngineSettings(
        python=Path(sys.executable),
        comfyui=FOLDER,
        base_directory=base_directory,
        log_file=base_directory / "engine.log",
        arguments=tuple(arguments),
        with_node_pack=with_node_pack,
        start_timeout_s=start_timeout_s,
    )

"""Settings that start the scripted engine; the engine itself starts faster without what they need."""

import sys
from pathlib import Path

from worker.demo.engine import FOLDER
from worker.engine.process import EngineSettings


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

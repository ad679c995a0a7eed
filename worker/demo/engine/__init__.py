"""A scripted engine: a real process that speaks ComfyUI's protocol without torch, and fails on demand.

`main.py` stands where ComfyUI's own main.py stands, so `EngineSettings(comfyui=FOLDER)` starts it. It takes time and
delivers pictures as told by a script (see script.py); its pictures are made up, their sizes and number are the graph's.
"""

from pathlib import Path

#: What to give as `EngineSettings.comfyui`.
FOLDER = Path(__file__).parent
#: `SNAPSHOT_FILE` of worker.workflows, a package that takes as long to import as half of the engine.
NODE_CLASSES_FILE = FOLDER.parents[1] / "workflows" / "object_info.json"
#: Names the script where the command line does not, as for an engine that an owner's `comfyui_path` starts.
SCRIPT_VARIABLE = "SCRIPTED_ENGINE_SCRIPT"
#: The same for the version of ComfyUI whose dialect it speaks.
DIALECT_VARIABLE = "SCRIPTED_ENGINE_DIALECT"

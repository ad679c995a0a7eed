"""The worker's node pack, loaded by ComfyUI itself. Nothing here may import the worker.

`auth` (only the worker may talk to this engine), `inputs` (pictures in memory, never on disk), `output` (raw pixels
over the websocket instead of PNG files), `annotators` and `regions` (a picture as the map that steers a ControlNet).

A class whose libraries this engine lacks is not there at all: so the worker sees what it can't ask for.
"""

from . import auth
from .annotators import HordeAnnotator, can_annotate
from .inputs import HordeImageInput, add_input_routes
from .output import HordeImageOutput

NODE_CLASS_MAPPINGS = {node.__name__: node for node in (HordeImageInput, HordeImageOutput)}
if can_annotate():
    NODE_CLASS_MAPPINGS[HordeAnnotator.__name__] = HordeAnnotator
NODE_DISPLAY_NAME_MAPPINGS = {
    "HordeAnnotator": "Horde: control map",
    "HordeImageInput": "Horde: image from memory",
    "HordeImageOutput": "Horde: raw image to the worker",
}

auth.install()
add_input_routes()

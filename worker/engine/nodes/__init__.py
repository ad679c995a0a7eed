"""The worker's node pack, loaded by ComfyUI itself. Nothing here may import the worker.

`auth` (only the worker may talk to this engine), `inputs` (pictures in memory, never on disk), `output` (raw pixels
over the websocket instead of PNG files).
"""

from . import auth
from .inputs import HordeImageInput, add_input_routes
from .output import HordeImageOutput

NODE_CLASS_MAPPINGS = {node.__name__: node for node in (HordeImageInput, HordeImageOutput)}
NODE_DISPLAY_NAME_MAPPINGS = {
    "HordeImageInput": "Horde: image from memory",
    "HordeImageOutput": "Horde: raw image to the worker",
}

auth.install()
add_input_routes()

"""The worker's node pack, loaded by ComfyUI itself. Nothing here may import the worker.

`engine_token` (only the worker may talk to this engine), `inputs` (pictures in memory, never on disk), `output` (raw
pixels over the websocket instead of PNG files), `annotators` and `regions` (preprocessors of ControlNets), `upscale`,
`faces`, `background`, `tiling` (seamless pictures), `layers` and `transparency` (LayerDiffuse), `qr` (QR codes in
layers), `loras` (those that change nothing are errors), `sampling` (more samplers and schedules, and what they are
told), `memory` (card memory that sampling takes, sent with the pictures), and `paged_memory` (what the engine holds of
the card).

A class lists the libraries that it needs in PACKAGES. Without them it is not registered, so that the worker sees in
/object_info what it can't ask for.
"""

import logging
from importlib.util import find_spec

from . import engine_token, loras, sampling
from .annotators import HordeAnnotator
from .background import HordeStripBackground
from .faces import HordeFaceModelLoader, HordeFaceRestore
from .inputs import HordeImageInput, add_input_routes
from .layers import HordeLayerModel
from .memory import meter
from .output import HordeImageOutput
from .paged_memory import add_memory_route
from .qr import HordeQrCode
from .sampling import HordeSamplerOptions
from .tiling import HordeTiling
from .transparency import HordeTransparentDecode
from .upscale import HordeImageUpscale


def _usable(node):
    missing = [name for name in getattr(node, "PACKAGES", ()) if find_spec(name) is None]
    if missing:
        logging.getLogger(__name__).warning("%s is left out: %s is not installed", node.__name__, ", ".join(missing))
    return not missing


NODES = {
    HordeAnnotator: "Horde: control map",
    HordeFaceModelLoader: "Horde: load face restorer",
    HordeFaceRestore: "Horde: restore faces",
    HordeImageInput: "Horde: image from memory",
    HordeImageOutput: "Horde: raw image to the worker",
    HordeImageUpscale: "Horde: upscale image by image",
    HordeLayerModel: "Horde: draw on nothing",
    HordeQrCode: "Horde: QR code in layers",
    HordeSamplerOptions: "Horde: options of the sampler",
    HordeStripBackground: "Horde: strip background",
    HordeTiling: "Horde: tiling picture",
    HordeTransparentDecode: "Horde: decode transparency",
}
NODE_CLASS_MAPPINGS = {node.__name__: node for node in NODES if _usable(node)}
NODE_DISPLAY_NAME_MAPPINGS = {name: NODES[node] for name, node in NODE_CLASS_MAPPINGS.items()}

engine_token.install()
add_input_routes()
add_memory_route()
loras.install()
sampling.install()
meter.install()

"""The same work with less memory, for a second try after an engine ran out of it. Pure."""

from dataclasses import replace

from worker.workflows.graph import Graph
from worker.workflows.request import MAX_SEED, RenderRequest

#: Tile of the VAE in pixels, and how far tiles overlap; temporal values are for video and must be there.
TILING = {"tile_size": 512, "overlap": 64, "temporal_size": 64, "temporal_overlap": 8}
TILED = {"VAEDecode": "VAEDecodeTiled", "VAEEncode": "VAEEncodeTiled"}


def one_by_one(request: RenderRequest) -> tuple[RenderRequest, ...]:
    """Each image of the batch as a request of its own, the first with the seed that was asked for."""
    return tuple(replace(request, batch=1, seed=(request.seed + number) & MAX_SEED) for number in range(request.batch))


def tiled(graph: Graph) -> Graph:
    """The same graph with its VAE working tile by tile; slower, and with hardly visible seams at the worst."""
    return {
        node_id: {**node, "class_type": TILED[node["class_type"]], "inputs": {**node["inputs"], **TILING}}
        if node["class_type"] in TILED
        else node
        for node_id, node in graph.items()
    }

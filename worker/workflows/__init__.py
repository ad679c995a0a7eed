"""From payload to ComfyUI graph, pure: no I/O but reading template files, no torch, no ComfyUI.

`request` (payload → clamped RenderRequest; `coerce`, `families`, `samplers`, `hires` and `prompts` are its parts),
`features` (what a request needs), `library` (all templates and fragments; `manifest` is their shape, `reader` checks
a folder, `pieces` what comes of it), `bind` (fields into inputs; `cascade` has figures for it), `select` (which
template serves a request, and why not the others), `graph` (ports, splicing), `materialise` (the graph for ComfyUI),
`audit` (against /object_info), `describe` (docs/payload.md).
"""

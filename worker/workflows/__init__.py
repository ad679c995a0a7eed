"""From payload to ComfyUI graph, pure: no I/O but reading template files, no torch, no ComfyUI.

`request` (payload → clamped RenderRequest; `coerce`, `families`, `samplers`, `hires`, `prompts` are its parts),
`library` (templates and fragments as data), `select` (which of them serve a request, and why not the others), `bind`
(fields into inputs), `graph` (ports, splicing), `audit` (against /object_info).
"""

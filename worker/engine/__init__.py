"""ComfyUI as a supervised child process.

`install` (the runtime on disk), `process` (spawn, readiness, stop), `client` (HTTP and websocket), `faults` (what an
error means: pure), `policy` (restart and retry: pure), `pool` (slots), `nodes/` (the node pack loaded inside ComfyUI).
"""

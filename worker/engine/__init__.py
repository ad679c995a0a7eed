"""ComfyUI as supervised child processes: installed, started, watched, given graphs, restarted.

`install/` (the runtime on disk), `process` (one process: start, readiness, stop), `slot` (one place for an engine, kept
running), `pool` (all slots: which one gets a job), `client` (HTTP and websocket), `error_classifier` (what an exception
inside ComfyUI means), `retries` (another try or not), `nodes/` (the node pack loaded inside ComfyUI).
"""

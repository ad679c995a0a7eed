"""ComfyUI as supervised child processes: installed, started, watched, given graphs, restarted.

`install/` (the runtime on disk), `versions/` (ComfyUIs side by side), `command_flags` (which flags one has), `process`
(one process: start, readiness, stop), `slot` (keeps one engine running), `pool` (all slots: which one gets a job,
another try or not), `render_task` (what a job asks, limits to its tries), `card_watch` (cards that other programs
use), `client` and `prompt` (graphs in one engine, images out), `connection` (HTTP and websocket), `events` (what the
engine sends), `stall_detector` (how long it may stand still), `error_classifier` (what an exception inside ComfyUI
means), `graph_trace` (which file a failing node reads), `nodes/` (the node pack loaded inside ComfyUI).
"""

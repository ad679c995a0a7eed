"""Child processes of a run that was killed: each is noted in a file, and ended by the next run.

Children normally end with the worker (see worker.engine.launch); this is for one that hangs, or was started in a way
that does not tie it to the worker. A process is identified by pid and start time, so that another process with a
reused pid is left alone.
"""

import contextlib
import json
from pathlib import Path

import psutil
from loguru import logger

from worker.process_birth import Birth
from worker.untrusted.json_reader import JsonBounds, read_json_file

#: The note in the folder of each child.
FILE_NAME = "child.json"
#: What `note_child` writes has three values.
NOTE_BOUNDS = JsonBounds(max_bytes=4096)
#: Seconds after which a killed process that still runs counts as stuck in the kernel.
END_TIMEOUT_S = 10.0


def note_child(folder: Path, pid: int) -> None:
    """Note that this process belongs to `folder`, replacing the note before. Never raises."""
    with contextlib.suppress(psutil.Error, OSError):
        birth = Birth.of(pid)
        content = {"pid": pid, "born": birth.date, "after_boot": birth.after_boot}
        (folder / FILE_NAME).write_text(json.dumps(content), encoding="utf-8")


def end_orphans(root: Path) -> int:
    """End every noted process below `root` that still runs, with its children. Returns the number of processes.

    Only for the holder of the worker's lock: no other run can own what is noted there.
    """
    left: list[psutil.Process] = []
    for note in root.glob(f"**/{FILE_NAME}"):
        child = _read(note)
        if child is not None:
            with contextlib.suppress(psutil.Error):
                left += [child, *child.children(recursive=True)]
        note.unlink(missing_ok=True)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    _, stuck = psutil.wait_procs(left, timeout=END_TIMEOUT_S)
    if left:
        logger.bind(action="orphans_ended", pids=[process.pid for process in left]).warning(
            "Ended {} process(es) that an earlier run of this worker left behind.", len(left) - len(stuck)
        )
    for process in stuck:
        logger.bind(action="orphan_stuck", pid=process.pid).error(
            "Process {} of an earlier run does not end even when killed: its driver is stuck. Restart the machine.",
            process.pid,
        )
    return len(left)


def _read(note: Path) -> psutil.Process | None:
    """The noted process, if it is still the one that was noted."""
    try:
        content = read_json_file(note, NOTE_BOUNDS)
        process = psutil.Process(int(content["pid"]))
        # A note of an older version has the date alone.
        same = Birth(float(content["born"]), str(content.get("after_boot", ""))).is_of(process.pid)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, psutil.Error):
        return None
    return process if same and process.is_running() else None

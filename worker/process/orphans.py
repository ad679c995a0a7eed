"""Children of a run that was killed: noted while they live, ended by the next run.

Children die with the worker by themselves (see worker.engine.launch); this is the net below, for one that is stuck or
was started in a way that loses the tie. A process is known by its number and its moment of birth, so that whoever
got the number afterwards is left alone.
"""

import contextlib
import json
from pathlib import Path

import psutil
from loguru import logger

from worker.untrusted.json_reader import JsonBounds, read_json_file

#: One in the folder of every child.
FILE_NAME = "child.json"
#: What `note_child` writes has two values.
NOTE_BOUNDS = JsonBounds(max_bytes=4096)
#: How far two readings of the same birth may lie apart: the system counts it from a boot time that it corrects.
BIRTH_TOLERANCE_S = 2.0
#: A killed process that is not gone by then is stuck in the kernel.
END_TIMEOUT_S = 10.0


def note_child(folder: Path, pid: int) -> None:
    """Write down that this process belongs to `folder`, in place of the one before. Never raises."""
    with contextlib.suppress(psutil.Error, OSError):
        content = {"pid": pid, "born": psutil.Process(pid).create_time()}
        (folder / FILE_NAME).write_text(json.dumps(content), encoding="utf-8")


def end_orphans(root: Path) -> int:
    """End what is noted in any folder below `root` and still runs, with all its children; how many processes.

    Only for who holds the worker's lock: what is noted there belongs to nobody then.
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
        same = abs(process.create_time() - float(content["born"])) <= BIRTH_TOLERANCE_S
    except (OSError, ValueError, KeyError, TypeError, OverflowError, psutil.Error):
        return None
    return process if same and process.is_running() else None

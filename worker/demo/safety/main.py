"""The scripted safety child: `worker.safety.child.service` with a made-up look."""

import os
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from worker.demo.safety.script import LOOK_FAULTS, START_FAULTS, SafetyFaultKind, claim_fault, read_script
from worker.engine.launch import kill_with_parent
from worker.safety.child.service import Failed, Look, Say, serve

FOR_EVER_S = 1e6


def main() -> None:
    """The script's path is the only argument, if there is one."""
    script = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    kill_with_parent()
    # The service takes standard output away; this stays, for what the service would never write.
    serve(partial(_build, script, os.dup(1)))


def _build(script: Path | None, pipe_out: int, say: Say) -> Look:
    match claim_fault(script, START_FAULTS):
        case SafetyFaultKind.START_CRASH:
            sys.stderr.write("OSError: libtorch.so: cannot open shared object file\n")
            os._exit(1)
        case SafetyFaultKind.NO_WEIGHTS:
            raise Failed("The weights can't be had: no network.", "Check the network.")
        case SafetyFaultKind.START_HANG:
            time.sleep(FOR_EVER_S)
    say("loading nothing")
    time.sleep(read_script(script).start_seconds)
    return partial(_look, script, pipe_out)


def _look(script: Path | None, pipe_out: int, header: Mapping[str, Any], pixels: bytes) -> Mapping[str, Any]:
    time.sleep(read_script(script).seconds)
    wanted = header["width"] * header["height"] * len(header["mode"])
    if len(pixels) != wanted:
        raise ValueError(f"{len(pixels)} bytes instead of {wanted}")
    csam = "[csam]" in header["prompt"]
    verdict = {"nsfw": csam or "[nsfw]" in header["prompt"], "csam": csam}
    match claim_fault(script, LOOK_FAULTS):
        case SafetyFaultKind.CRASH:
            os._exit(3)
        case SafetyFaultKind.HANG:
            time.sleep(FOR_EVER_S)
        case SafetyFaultKind.GARBAGE:
            os.write(pipe_out, b"Traceback (most recent call last):\n")
        case SafetyFaultKind.NO_VERDICT:
            return {"nsfw": "perhaps"}
        case SafetyFaultKind.WRONG_IMAGE:
            return {**verdict, "id": header["id"] + 1}
        case SafetyFaultKind.ERROR:
            raise ValueError("a picture without meaning")
    return verdict

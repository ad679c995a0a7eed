"""The scripted safety child: `worker.safety.child.service` with a made-up check."""

import os
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from worker.demo.safety.script import CHECK_FAULTS, START_FAULTS, SafetyFaultKind, claim_fault, read_script
from worker.engine.launch import kill_with_parent
from worker.safety.child.service import PREFIX, CheckImage, Failed, Say, pack, serve

FOR_EVER_S = 1e6
#: Deeper than Python's parser goes, and short enough for one frame.
NESTING = 100_000


def main() -> None:
    """The script's path is the only argument, if there is one."""
    script = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    kill_with_parent()
    # The service takes standard output away; this stays, for what the service would never write.
    serve(partial(_build, script, os.dup(1)))


def _build(script: Path | None, pipe_out: int, say: Say) -> CheckImage:
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
    return partial(_check, script, pipe_out)


def _check(script: Path | None, pipe_out: int, header: Mapping[str, Any], pixels: bytes) -> Mapping[str, Any]:
    time.sleep(read_script(script).seconds)
    wanted = header["width"] * header["height"] * len(header["mode"])
    if len(pixels) != wanted:
        raise ValueError(f"{len(pixels)} bytes instead of {wanted}")
    csam = "[csam]" in header["prompt"]
    verdict = {"nsfw": csam or "[nsfw]" in header["prompt"], "csam": csam}
    match claim_fault(script, CHECK_FAULTS):
        case SafetyFaultKind.CRASH:
            os._exit(3)
        case SafetyFaultKind.HANG:
            time.sleep(FOR_EVER_S)
        case SafetyFaultKind.GARBAGE:
            os.write(pipe_out, b"Traceback (most recent call last):\n")
        case SafetyFaultKind.NESTED:
            nested = b'{"id":' + b"[" * NESTING + b"]" * NESTING + b"}"
            os.write(pipe_out, PREFIX.pack(len(nested), 0) + nested)
        case SafetyFaultKind.AHEAD:
            fine = {"nsfw": False, "csam": False}
            guesses = (1, 2, 3, "1", "2", "3", header["id"], 0, "", None)
            os.write(pipe_out, b"".join(pack({"id": guess, **fine}) for guess in guesses))
        case SafetyFaultKind.NO_VERDICT:
            return {"nsfw": "perhaps"}
        case SafetyFaultKind.WRONG_IMAGE:
            return {**verdict, "id": f"{header['id']}1"}
        case SafetyFaultKind.ERROR:
            raise ValueError("a picture without meaning")
    return verdict

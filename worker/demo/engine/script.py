"""What a scripted engine does to its jobs: how long it takes, and what goes wrong.

A script is a JSON file that a test writes and may rewrite while engines run; engines read it whenever they decide
something. Faults that are meant to strike a number of times are counted in a folder beside the script, so that the
count holds across restarts of an engine and over several engines that share the script.
"""

import contextlib
import json
import os
import random
import uuid
from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any


class FaultKind(str, Enum):
    #: prints a reason and ends while it starts
    START_FAILURE = "start_failure"
    #: answers a prompt with 400
    REFUSAL = "refusal"
    #: the job stands still; the server goes on answering, an interrupt is not heard
    HANG = "hang"
    #: the whole process stands still
    FREEZE = "freeze"
    #: the process ends with exit code 1
    CRASH = "crash"
    #: the process ends by a segmentation fault
    SEGFAULT = "segfault"
    OUT_OF_MEMORY = "out_of_memory"
    #: this job and all later ones of this process fail
    DEVICE_LOST = "device_lost"
    MODEL_BROKEN = "model_broken"
    NODE_FAILURE = "node_failure"
    #: a LoRA's file can't be read, whenever its loader runs
    LORA_BROKEN = "lora_broken"
    #: a LoRA has no key of the model
    LORA_MISMATCH = "lora_mismatch"
    #: a text encoder breaks on its text
    TEXT_FAILURE = "text_failure"
    #: the pictures are no numbers
    NOT_FINITE = "not_finite"
    #: the first image of the job is not sent
    FRAME_LOST = "frame_lost"
    #: the first image of the job is sent short of some bytes
    FRAME_DAMAGED = "frame_damaged"
    #: the websocket is closed in the middle of the job, which goes on
    SOCKET_LOST = "socket_lost"


#: Faults that strike a job that runs; the others have a moment of their own.
#: Node class → faults that strike whenever a node of it runs.
NODE_FAULTS = {
    "LoraLoader": frozenset({FaultKind.LORA_BROKEN, FaultKind.LORA_MISMATCH}),
    "CLIPTextEncode": frozenset({FaultKind.TEXT_FAILURE}),
    "HordeImageOutput": frozenset({FaultKind.NOT_FINITE}),
}
JOB_FAULTS = frozenset(FaultKind) - {FaultKind.START_FAILURE, FaultKind.REFUSAL}.union(*NODE_FAULTS.values())


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    kind: FaultKind
    #: how often in all; None: always
    times: int | None = 1
    #: when in a job: share of its steps done
    at: float = 0.5
    #: probability that it strikes when it could
    chance: float = 1.0
    #: only jobs whose checkpoint's name contains this
    checkpoint: str = ""
    #: only LoRAs whose name contains this
    lora: str = ""


@dataclass(frozen=True)
class Script:
    """Pace and faults of the engines that read it. The first fault that fits strikes; at most one a job."""

    #: sampling time of one job that is not cached
    seconds: float = 0.0
    #: added when a job's checkpoint is not the last one's
    load_seconds: float = 0.0
    #: from launch to the first answer
    start_seconds: float = 0.0
    #: added to every HTTP answer
    answer_seconds: float = 0.0
    #: from a prompt's arrival to its place in the queue; looked up again and again, so that a test can end it
    accept_seconds: float = 0.0
    #: memory of the card; 0: there is no card, and nothing is told of memory
    card_bytes: int = 0
    #: what sampling takes of it; a job that takes more than there is runs out of memory
    bytes_per_pixel: float = 0.0
    #: SIGTERM does nothing (read at start)
    ignore_sigterm: bool = False
    faults: tuple[Fault, ...] = ()
    #: tells the counts of one script from those of the next in the same file
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def write(self, path: Path) -> None:
        """Put this script in force, with fresh counts."""
        write_script(path, self.id, asdict(self))


def write_script(path: Path, script_id: str, content: dict[str, Any]) -> None:
    """Put a script in force in one step, so that nobody reads half of it."""
    draft = path.with_name(f"{path.name}.{script_id}")
    draft.write_text(json.dumps(content), encoding="utf-8")
    draft.replace(path)


def read_script(path: Path | None) -> Script:
    """The script in force; an empty one where there is no file. Raises ValueError or TypeError for a wrong one."""
    if path is None:
        return Script()
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Script()
    faults = tuple(Fault(**{**fault, "kind": FaultKind(fault["kind"])}) for fault in content.pop("faults", ()))
    return Script(**content, faults=faults)


def claim_fault(path: Path | None, kinds: frozenset[FaultKind], checkpoint: str = "", lora: str = "") -> Fault | None:
    """The fault that strikes now, if any; it is counted."""
    if path is None:
        return None
    script = read_script(path)
    for number, fault in enumerate(script.faults):
        if fault.kind not in kinds or fault.checkpoint not in checkpoint or fault.lora not in lora:
            continue
        if random.random() >= fault.chance:
            continue
        if count_strike(path, script.id, number, kind=fault.kind.value, times=fault.times):
            return fault
    return None


def strikes(path: Path) -> Counter[FaultKind]:
    """How often each kind of fault has struck, over all scripts that stood in this file."""
    return Counter({FaultKind(kind): count for kind, count in struck(path).items()})


def struck(path: Path) -> Counter[str]:
    """The same for any double's script, by the kinds' values."""
    return Counter(mark.name.split(".")[-1] for mark in _marks(path).glob("*"))


def _marks(path: Path) -> Path:
    return path.with_name(f"{path.name}.strikes")


def count_strike(path: Path, script_id: str, number: int, *, kind: str, times: int | None) -> bool:
    """Note one more strike; False when the fault has struck often enough. One file each: safe between processes."""
    folder = _marks(path)
    folder.mkdir(exist_ok=True)
    strike = sum(1 for _ in folder.glob(f"{script_id}.{number}.*"))
    while times is None or strike < times:
        with contextlib.suppress(FileExistsError):
            mark = folder / f"{script_id}.{number}.{strike}.{kind}"
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            return True
        strike += 1
    return False

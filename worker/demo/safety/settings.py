"""Settings that start the scripted safety checker; the checker itself starts faster without what they need."""

import sys
from pathlib import Path

from worker.safety.child_process import SafetySettings

#: Where `worker` lies: what the child must find.
ROOT = Path(__file__).resolve().parents[3]


def scripted_safety(
    folder: Path, *, script: Path | None = None, check_timeout_s: float = 60.0, start_silence_s: float = 60.0
) -> SafetySettings:
    """Settings that run the double on this very Python. `script` may be rewritten while it runs (see script.py)."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from worker.demo.safety.main import main; main()"
    return SafetySettings(
        command=(sys.executable, "-c", code, *([str(script)] if script else [])),
        folder=folder,
        log_file=folder / "safety.log",
        check_timeout_s=check_timeout_s,
        start_silence_s=start_silence_s,
    )

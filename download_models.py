"""`horde-bridge models download` under the name that horde-worker-reGen has for it; any Python 3 will do."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    if os.name == "nt":
        sys.exit(subprocess.call([str(HERE / "preload-models.cmd"), *sys.argv[1:]]))
    os.execvp("bash", ["bash", HERE / "preload-models.sh", *sys.argv[1:]])  # noqa: S606 - no mode from a zip

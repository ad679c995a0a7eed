"""`horde-bridge config to-env` under the name that horde-worker-reGen has for it; any Python 3 will do.

Writes bridgeData.env into the current folder, as it does; `-f FILE` names the settings.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUTPUT = Path("bridgeData.env")

if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Write the settings as AIWORKER_* lines into bridgeData.env.")
    options.add_argument("-f", "--file", default="bridgeData.yaml", help="the settings; bridgeData.yaml if not given")
    file = options.parse_args().file
    launcher = [str(HERE / "horde-bridge.cmd")] if os.name == "nt" else ["bash", str(HERE / "horde-bridge.sh")]
    done = subprocess.run([*launcher, "config", "to-env", "--config", file], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    # The API key is in it: for its owner's eyes.
    handle = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as lines:
        lines.write(done.stdout)
    sys.stdout.write(f"{file} is written to {OUTPUT}.\n")

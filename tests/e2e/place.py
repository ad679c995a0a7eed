"""A clone in a folder with a space in its name, on a system with few tools, for the tests of the scripts."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: What the scripts use of a system besides bash's own commands.
TOOLS = (
    "bash", "env", "readlink", "dirname", "sed", "cat", "grep", "paste", "tail", "mkdir", "chmod", "touch", "ls",
)  # fmt: skip
#: Nothing here takes longer than a second; a script that waits for a key would take for ever.
PATIENCE_S = 60

TELLING_INSTALLER = """
import json, os, sys
print(json.dumps({"arguments": sys.argv[1:], "python": os.environ.get("CHOSEN"), "cwd": os.getcwd()}))
"""


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)
    return path


class Place:
    """A clone at `my worker/`, a system with only these tools, and somewhere else to stand."""

    def __init__(self, folder: Path) -> None:
        self.clone = folder / "my worker"
        self.system = folder / "bin"
        self.elsewhere = folder / "else where"
        for new in (self.clone, self.system, self.elsewhere):
            new.mkdir()
        for tool in TOOLS:
            (self.system / tool).symlink_to(str(shutil.which(tool)))
        for script in ROOT.glob("*.sh"):
            shutil.copy2(script, self.clone)
        package = self.clone / "worker" / "engine" / "install"
        package.mkdir(parents=True)
        for level in (package, package.parent, package.parents[1]):
            (level / "__init__.py").touch()
        (package / "__main__.py").write_text(TELLING_INSTALLER)

    def python(self, name: str, *, fit: bool = True) -> None:
        """A Python in PATH; one that is not fit fails at everything."""
        body = f'export CHOSEN={name}\nexec {sys.executable} "$@"' if fit else "exit 1"
        program(self.system / name, body)

    def run(self, script: str, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.clone / script, *arguments],
            cwd=self.elsewhere,
            env={"PATH": str(self.system), "HOME": str(self.elsewhere), "CI": "true", **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )

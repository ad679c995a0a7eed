"""Programs that tests need and that come with the system, not with Python."""

import shutil

import pytest


def program(name: str, *, package: str) -> str:
    """Where it is. Fails, rather than skips, where it is not: `./test.sh` installs it."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not here: ./test.sh installs it on Debian and Ubuntu (package {package})")
    return found

"""Paths that an owner writes with ~ for his home folder."""

from pathlib import Path

from worker.errors import ConfigError


def owner_path(text: str | Path) -> Path:
    """The path with ~ resolved. Raises ConfigError for a user without a home folder, as in many containers."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{text}: ~ is used, but the home folder is unknown.", remedy="Write the whole path, or set HOME."
        ) from error

"""Settings changed while a worker runs: checked first as at a start, then written back into the owner's file.

Which keys may be changed from outside is a list, so that a new key is not among them until somebody has thought about
it: none whose value is a secret, runs code, names a file or an address, or opens the worker to others.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from worker.config.live import Change, changes
from worker.config.load import LoadedConfig, read_text
from worker.config.schema import BridgeData
from worker.config.write_back import change_settings, with_changes
from worker.errors import ConfigError
from worker.logs import io_reason

#: Reads and checks settings as at a start, with this text in place of the file's (None: its own); raises WorkerError.
Check = Callable[[str | None], LoadedConfig]

#: Heading → keys that may be changed, in the order in which they are shown.
EDITABLE: Final[Mapping[str, tuple[str, ...]]] = {
    "Models": ("models_to_load", "models_to_skip", "load_large_models"),
    "Which jobs you take": (
        "max_power", "max_batch", "allow_lora", "allow_post_processing", "allow_img2img", "allow_painting",
        "allow_controlnet", "allow_sdxl_controlnet", "allow_unsafe_ip", "require_upfront_kudos", "extra_slow_worker",
        "limit_max_steps", "nsfw", "censor_nsfw", "blacklist", "priority_usernames",
    ),
    "Performance": (
        "queue_size", "max_threads", "model_stickiness", "high_performance_mode", "moderate_performance_mode",
        "high_memory_mode", "very_high_memory_mode", "dynamic_vram", "unload_models_from_vram_often", "safety_on_gpu",
        "post_process_job_overlap", "download_speed_limit", "max_lora_cache_size",
    ),
    "Patience and messages": (
        "preload_timeout", "download_timeout", "post_process_timeout", "inference_step_timeout",
        "maintenance_when_broken_minutes", "stats_output_frequency", "minutes_allowed_without_jobs",
        "suppress_speed_warnings",
    ),
}  # fmt: skip
EDITABLE_KEYS: Final = frozenset(key for keys in EDITABLE.values() for key in keys)


class SettingsConflict(ConfigError):
    """The file is no longer the one that the change was made for."""


@dataclass(frozen=True)
class Edited:
    """What a change did."""

    changed: Sequence[Change]
    #: sentences about the settings as they are now
    warnings: Sequence[str]
    #: where the file as it was is kept; None where nothing changed
    kept: Path | None


@dataclass(frozen=True)
class Editor:
    """Changes the settings of one worker. Its calls block: use a thread."""

    check: Check

    def look(self) -> tuple[LoadedConfig, str]:
        """The settings as they are written now, and what stands for that state of the file. Raises WorkerError."""
        loaded = self.check(None)
        return loaded, _fingerprint(read_text(_file_of(loaded)))

    def change(self, wanted: Mapping[str, Any], *, fingerprint: str = "") -> Edited:
        """Set keys by their attribute. With `fingerprint` the file must be in the state that it stands for.

        Raises SettingsConflict, ConfigError and what `check` raises; the file is then as it was.
        """
        before = self.check(None)
        file = _file_of(before)
        text = read_text(file)
        if fingerprint and fingerprint != _fingerprint(text):
            raise _conflict(file)
        for key in wanted:
            _refuse(before, key)
        after = self.check(with_changes(text, wanted, str(file)))
        if read_text(file) != text:
            raise _conflict(file)
        try:
            kept = change_settings(file, wanted)
        except OSError as error:
            raise ConfigError(
                f"{file} can't be written: {io_reason(error)}. Nothing was changed.",
                remedy="Let the worker write to this file and its folder, or edit the file by hand.",
            ) from error
        return Edited(changes(before.data, after.data), after.warnings, kept)


def locked(loaded: LoadedConfig, key: str) -> str:
    """What sets the key in place of the file: "environment: AIWORKER_…", "command line"; empty where nothing does."""
    setting = loaded.written.get(key)
    return "" if setting is None or setting.place.startswith(f"{loaded.source}:") else setting.place


def _file_of(loaded: LoadedConfig) -> Path:
    from_file = Path(loaded.source)
    if not from_file.is_file():
        raise ConfigError(
            "The settings come from the environment, which can't be changed while the worker runs.",
            remedy="Change the variables where the worker is started, and start it again.",
        )
    return from_file


def _refuse(loaded: LoadedConfig, key: str) -> None:
    if key not in EDITABLE_KEYS:
        known = "can't be changed from outside" if key in BridgeData.model_fields else "is not a known key"
        raise ConfigError(f"{key[:60]} {known}.", remedy="Edit the settings file by hand.")
    if where := locked(loaded, key):
        raise ConfigError(f"{key} is set by the {where}, which overrides the file.", remedy="Change it there.")


def _conflict(file: Path) -> SettingsConflict:
    return SettingsConflict(
        f"{file} has been changed meanwhile. Nothing was written.",
        remedy="Look at the settings again, and repeat the change.",
    )


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

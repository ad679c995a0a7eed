"""All keys of bridgeData.yaml as one frozen object.

Attributes have the key's own name; other accepted spellings are mapped to it by `FIELDS`. Ranges are checked here.
Dependencies between keys are applied by `worker.config.rules`, which warns instead of failing.
"""

import difflib
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, SecretStr

from worker.config.dashboard_keys import DashboardKeys
from worker.config.key_types import Effect, KeyGroup, Text, TextList, WebAddress, WorkerName, bare_type, key, key_doc
from worker.config.machine_keys import EngineKeys, OutputKeys, PerformanceKeys, TimeoutKeys
from worker.config.serving_keys import MEGABYTE, DownloadKeys, FeatureKeys, ModelKeys, WorkerKeys

#: Pixels per step of `max_power`, by the Horde's convention.
PIXELS_PER_POWER = 8 * 64 * 64
#: Seconds added to the post-processing limit for each image of a batch.
POST_PROCESS_S_PER_IMAGE = 3
#: The kinds of work of an alchemist worker.
ALCHEMIST_FORMS = ("caption", "nsfw", "interrogation", "post-process")
#: Where the project's forge gives out the list of releases.
RELEASES = "https://github.com/horde-bridge/horde-bridge/releases/latest/download/releases.json"

_ALCHEMIST = "It belongs to alchemist workers; this worker renders images only."
_SCRIBE = "It belongs to scribe (text) workers; this worker renders images only."
_MEMORY = "The engine manages memory itself; use the memory modes instead."


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


class UpdateKeys(KeyGroup):
    TITLE: ClassVar[str] = "Updates"

    auto_update: Annotated[Literal["auto", "ask", "off"], BeforeValidator(_lower)] = key(
        "ask",
        Effect.AT_ONCE,
        "What the running worker does about newer versions, once a day: auto takes them when its jobs are done and "
        "starts again, ask says that there is one, off does not look. `horde-bridge update` works with each.",
        allowed="auto, ask or off",
    )
    update_channel: Annotated[Literal["stable", "beta"], BeforeValidator(_lower)] = key(
        "stable",
        Effect.AT_ONCE,
        "Which versions: stable ones, or trial versions (beta) as well.",
        allowed="stable or beta",
    )
    update_source: WebAddress = key(
        RELEASES,
        Effect.AT_ONCE,
        "Address of the list of releases. Other than the default it is a mirror of your own. A clone asks its remote "
        "`origin` instead.",
        allowed="an https:// address",
    )


class IgnoredKeys(KeyGroup):
    """Keys of other workers. Accepted, so that an existing file works unchanged, but without any effect."""

    TITLE: ClassVar[str] = "Accepted without effect"

    very_fast_disk_mode: bool = key(False, Effect.NONE, "Engines here never wait for each other when they load models.")
    capture_kudos_training_data: bool = key(
        False, Effect.NONE, "This worker stores no requests, so there is no training data."
    )
    kudos_training_data_file: Text | None = key(
        None, Effect.NONE, "This worker stores no requests, so there is no such file.", allowed="a file name"
    )
    worker_name: WorkerName = key(
        "", Effect.NONE, "An image worker is named by dreamer_name; worker_name is used if that is not set."
    )
    censorlist: TextList = key((), Effect.NONE, "Use blacklist to refuse jobs by words.")
    always_download: bool = key(True, Effect.NONE, "Models are always downloaded without a question.")
    temp_dir: Text = key("./tmp", Effect.NONE, "Temporary files go where the environment variable TMPDIR says.")
    disable_disk_cache: bool = key(False, Effect.NONE, "There is no disk cache of models to disable.")
    disable_terminal_ui: bool = key(True, Effect.NONE, "There is no full-screen display to disable.")
    vram_to_leave_free: Text = key("80%", Effect.NONE, _MEMORY, allowed="a percentage or megabytes")
    ram_to_leave_free: Text = key("80%", Effect.NONE, _MEMORY, allowed="a percentage or megabytes")
    alchemist_name: Text = key("An Awesome Alchemist", Effect.NONE, _ALCHEMIST)
    forms: TextList = key(ALCHEMIST_FORMS, Effect.NONE, _ALCHEMIST)
    scribe_name: Text = key("An Awesome Scribe", Effect.NONE, _SCRIBE)
    kai_url: Text = key("http://localhost:5000", Effect.NONE, _SCRIBE)
    max_context_length: int = key(1024, Effect.NONE, _SCRIBE, least=1, most=16384)
    max_length: int = key(80, Effect.NONE, _SCRIBE, least=1, most=16384)
    branded_model: bool = key(True, Effect.NONE, _SCRIBE)


class BridgeData(
    WorkerKeys,
    ModelKeys,
    DownloadKeys,
    FeatureKeys,
    PerformanceKeys,
    EngineKeys,
    TimeoutKeys,
    OutputKeys,
    DashboardKeys,
    UpdateKeys,
    IgnoredKeys,
):
    """The settings of one worker. Secrets are `SecretStr`: `data.api_key.get_secret_value()`."""

    @property
    def max_pixels(self) -> int:
        """Width times height of the largest image accepted."""
        return self.max_power * PIXELS_PER_POWER

    @property
    def chooses_by_demand(self) -> bool:
        """Whether what is asked for at the Horde chooses among the models."""
        return self.dynamic_models and self.number_of_dynamic_models > 0

    @property
    def lora_cache_bytes(self) -> int:
        """Disk space for LoRAs fetched on demand, in bytes."""
        return self.max_lora_cache_size * 1024**3

    @property
    def download_bytes_per_s(self) -> float:
        """Download speed limit in bytes per second; 0: none."""
        return self.download_speed_limit * MEGABYTE

    @property
    def post_process_limit_s(self) -> int:
        """Time limit for post-processing a whole batch, in seconds."""
        return self.post_process_timeout + POST_PROCESS_S_PER_IMAGE * self.max_batch

    @property
    def status_period_s(self) -> int | None:
        """Seconds between two status blocks; None: no status blocks."""
        return self.stats_output_frequency or None


#: The groups in documentation order.
GROUPS: tuple[type[KeyGroup], ...] = tuple(base for base in BridgeData.__bases__ if issubclass(base, KeyGroup))


def _by_every_name() -> dict[str, str]:
    names = {name: name for name in BridgeData.model_fields}
    return names | {alias: name for name, field in BridgeData.model_fields.items() for alias in key_doc(field).aliases}


#: Every accepted spelling of a key -> the attribute it sets.
FIELDS: Mapping[str, str] = _by_every_name()
#: The attributes whose values are never shown.
SECRETS = frozenset(name for name, field in BridgeData.model_fields.items() if bare_type(field) is SecretStr)


def nearest(name: str) -> str | None:
    """The known key most similar to `name`, if any is similar enough."""
    lowered = {known.lower(): known for known in FIELDS}
    found = difflib.get_close_matches(name[:100].lower(), lowered, n=1, cutoff=0.7)
    return lowered[found[0]] if found else None

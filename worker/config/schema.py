"""Every key of bridgeData.yaml under its name there, as one frozen object.

Attribute names are the names an owner writes; aliases are resolved before (`FIELDS`). Ranges hold by construction;
what keys demand of each other is settled by `worker.config.rules`, because it only ever warns.
"""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from worker.config.download import MEGABYTE, DownloadKeys
from worker.config.inert import InertKeys
from worker.config.key import Keys, about
from worker.config.machine import EngineKeys, OutputKeys, PaceKeys, TimeoutKeys
from worker.config.offer import FeatureKeys, ModelKeys, WorkerKeys

#: The groups in the order in which documentation shows them.
GROUPS = (WorkerKeys, ModelKeys, DownloadKeys, FeatureKeys, PaceKeys, EngineKeys, TimeoutKeys, OutputKeys, InertKeys)

#: Pixels that one step of `max_power` stands for, by the Horde's convention.
PIXELS_PER_POWER = 8 * 64 * 64
#: Seconds that each image of a batch adds to the time post-processing may take.
POST_PROCESS_S_PER_IMAGE = 3


class BridgeData(
    WorkerKeys, ModelKeys, DownloadKeys, FeatureKeys, PaceKeys, EngineKeys, TimeoutKeys, OutputKeys, InertKeys
):
    """The settings of one worker. Secrets are `SecretStr`: `data.api_key.get_secret_value()`."""

    @property
    def max_pixels(self) -> int:
        """Width times height of the largest image taken."""
        return self.max_power * PIXELS_PER_POWER

    @property
    def lora_cache_bytes(self) -> int:
        """Disk space for LoRAs fetched on demand, in bytes."""
        return self.max_lora_cache_size * 1024**3

    @property
    def download_bytes_per_s(self) -> float:
        """Bytes per second that downloads may take; 0: no bound."""
        return self.download_speed_limit * MEGABYTE

    @property
    def post_process_limit_s(self) -> int:
        """Seconds that post-processing of a whole batch may take."""
        return self.post_process_timeout + POST_PROCESS_S_PER_IMAGE * self.max_batch

    @property
    def status_period_s(self) -> int | None:
        """Seconds between two status blocks; None: no status blocks."""
        return self.stats_output_frequency or None


def _by_every_name() -> dict[str, str]:
    names = {name: name for name in BridgeData.model_fields}
    return names | {alias: name for name, field in BridgeData.model_fields.items() for alias in about(field).aliases}


#: Every name an owner may write -> the attribute it sets.
FIELDS: Mapping[str, str] = MappingProxyType(_by_every_name())


def nearest(name: str) -> str | None:
    """The known name that `name` was probably meant to be."""
    lowered = {known.lower(): known for known in FIELDS}
    found = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.7)
    return lowered[found[0]] if found else None


def groups() -> tuple[tuple[str, type[Keys]], ...]:
    """Title and keys of each group, in the order in which an owner should meet them."""
    return tuple((group.TITLE, group) for group in GROUPS)

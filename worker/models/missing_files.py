"""What has to be fetched for a choice of models, in the order in which it is of use. Nothing is fetched here."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from worker.config.schema import BridgeData
from worker.models.auxiliary_records import as_record, wanted_files
from worker.models.catalog.model_selection import Choice
from worker.models.catalog.records import ModelRecord
from worker.models.disk.store import Store
from worker.models.download_plan import Plan, fit_disk, plan_supply


@dataclass(frozen=True)
class Lacking:
    """`records` are to be fetched as `plan` says; for those in `refused`, by name, there is no room."""

    records: tuple[ModelRecord, ...]
    refused: Mapping[str, str]
    plan: Plan


def all_beside(config: BridgeData, choice: Choice) -> list[ModelRecord]:
    """The files beside the chosen models that what the owner allows needs, there or not.

    Those of which the lists tell no address are left out: who has lists of his own decides that way.
    """
    families = {record.family for record in choice.records if record.family}
    records = [as_record(file, choice.reference) for file in wanted_files(config, families)]
    return [record for record in records if all(file.url for file in record.files)]


def find_lacking(
    store: Store, config: BridgeData, choice: Choice, *, reserve_bytes: int, given_up: Collection[str] = ()
) -> Lacking:
    """Models and the files beside them that are not whole.

    A first model comes first, so that there is something to serve; then what serves every model; then the others.
    """
    models = [record for record in choice.records if record.name not in given_up]
    lacking = [record for record in models if store.missing(record)]
    beside = all_beside(config, choice)
    first = 0 if len(lacking) < len(models) else 1
    ordered = [*lacking[:first], *(record for record in beside if store.missing(record)), *lacking[first:]]
    records, refused = fit_disk(store, ordered, reserve_bytes=reserve_bytes)
    return Lacking(records, refused, plan_supply(store, records))

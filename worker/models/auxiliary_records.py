"""Files beside the image models: those that the features switched on in the settings need, as records to fetch."""

from collections.abc import Iterable
from typing import Final

from worker.config.schema import BridgeData
from worker.models.catalog.records import Category, ModelFile, ModelRecord, Purpose
from worker.models.catalog.reference import Reference
from worker.workflows.auxiliary_files import (
    ANNOTATORS,
    CONTROLNETS,
    LAYER_DIFFUSE,
    QR_CONTROLNETS,
    AuxiliaryFile,
    of_feature,
)
from worker.workflows.types import Family, Feature

_POST_PROCESSING: Final = (Feature.FACE_FIX, Feature.UPSCALE, Feature.STRIP_BACKGROUND)
_CATEGORIES: Final = {category.value: category for category in Category}


def wanted_files(config: BridgeData, families: Iterable[Family]) -> tuple[AuxiliaryFile, ...]:
    """The files of everything the owner allows, as far as models of these families can use them; each once. Pure."""
    served = frozenset(families)
    files: list[AuxiliaryFile] = []
    if config.allow_post_processing:
        files += [file for feature in _POST_PROCESSING for file in of_feature(feature)]
    if config.allow_controlnet:
        controlled = {family: types for family, types in CONTROLNETS.items() if family in served}
        types = dict.fromkeys(name for types in controlled.values() for name in types)
        files += [file for name in types for file in ANNOTATORS[name]]
        files += [file for types in controlled.values() for file in types.values()]
    # QR codes come without a switch, unless a model of SDXL is in the list.
    if config.allow_sdxl_controlnet or Family.STABLE_DIFFUSION_XL not in served:
        files += [file for family, file in QR_CONTROLNETS.items() if family in served]
    if config.allow_sdxl_controlnet:
        files += [
            file for family, both in LAYER_DIFFUSE.items() if family in served for file in (both.model, both.decoder)
        ]
    return tuple(dict.fromkeys(files))


def as_file(file: AuxiliaryFile, reference: Reference | None = None) -> ModelFile:
    """The file for the store; with a reference also where it comes from and what its checksum is."""
    url, sha256, size = file.url, file.sha256, None
    category = _CATEGORIES.get(file.category)
    record = reference.find(category, file.record) if reference and category else None
    listed = next((each for each in record.files if each.name == file.name), None) if record else None
    if listed:
        url, sha256, size = listed.url, listed.sha256, listed.size
    return ModelFile(Purpose.AUXILIARY, file.name, file.folder, sha256, url, size)


def as_record(file: AuxiliaryFile, reference: Reference) -> ModelRecord:
    """The same as a record of its own, so that each is fetched, and may fail, by itself."""
    category = _CATEGORIES.get(file.category, Category.MISCELLANEOUS)
    return ModelRecord(f"{file.folder}/{file.name}", category, (as_file(file, reference),))

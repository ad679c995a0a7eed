"""`render` and `workflows …`: what becomes of a job's payload; nothing is run."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from worker.app.build import library_of
from worker.app.state_dir import engines_folder, worker_folder
from worker.commands.options import (
    AsJson,
    ConfigFile,
    FromEnvironment,
    PopFile,
    ReferenceFolder,
    settings_or_defaults,
)
from worker.commands.output import answer, answer_json, answer_table
from worker.config.load import LoadedConfig
from worker.config.paths import models_root
from worker.engine.install.layout import Runtime
from worker.engine.versions.shelf import Shelf
from worker.engine.versions.state import INSTALLED
from worker.horde.agent import AGENT
from worker.jobs.preview import preview, read_pop_file, request_for, to_json
from worker.models.catalog.custom import with_custom
from worker.models.catalog.model_selection import custom_of, load_lists, select_from_cache, store_of
from worker.models.catalog.records import ModelRecord
from worker.models.catalog.reference import read_folder
from worker.models.download_plan import as_model_file
from worker.scheduling.offer import Capabilities, decide
from worker.workflows.audit import (
    MODEL_FOLDERS,
    NamedFile,
    audit_library,
    everything_wrong,
    files_absent,
    own_classes,
    remarks,
    suited,
)
from worker.workflows.capabilities import Ability, Survey, survey
from worker.workflows.library import Library
from worker.workflows.node_classes import PINNED_VERSION, ObjectInfo, kept_answer, snapshot, with_any_file
from worker.workflows.request import ServedModel
from worker.workflows.template_check import rehearse
from worker.workflows.template_reader import GRAPH_FILE
from worker.workflows.template_selection import explain
from worker.workflows.types import Family

app = typer.Typer(help="Look at the workflow templates.", no_args_is_help=True)


def render(
    job: PopFile,
    *,
    config: ConfigFile = None,
    reference: ReferenceFolder = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
) -> None:
    """Print the ComfyUI graph for a job; nothing is run."""
    del offline  # nothing is fetched anyway
    loaded = settings_or_defaults(config)
    models, library = _reference_models(loaded, reference), library_of(loaded.data)
    sys.stdout.write(f"{to_json(preview(read_pop_file(job), models, library).graph)}\n")


@app.command("list")
def list_(
    *,
    config: ConfigFile = None,
    from_environment: FromEnvironment = False,
    as_json: AsJson = False,
) -> None:
    """Templates and fragments, kinds of jobs that can be done with the models that are here, the feature level; and
    of each why not. Checked against the nodes of the ComfyUI in use.
    """
    loaded = settings_or_defaults(config, from_environment=from_environment)
    library, node_classes = _suited(loaded)
    library = library.without(audit_library(library, node_classes))
    library = library.without(files_absent(library, _is_here(loaded)))
    found, assumed = _survey(loaded, library)
    made = decide(loaded.data, found, AGENT)
    if as_json:
        answer_json(_as_json(library, found, made, assumed))
    else:
        _show(library, found, made, assumed)


@app.command("check")
def check(*, config: ConfigFile = None, from_environment: FromEnvironment = False) -> None:
    """Check every template, ours and yours, against the nodes of the pinned ComfyUI and the files that are here, by
    itself and filled in for every kind of job. Tells all mistakes at once; remarks are no mistakes.
    """
    loaded = settings_or_defaults(config, from_environment=from_environment)
    library, node_classes = _suited(loaded)
    wrong = everything_wrong(library, node_classes)
    for name, sentences in files_absent(library, _is_here(loaded)).items():
        wrong += [f"{name}/{GRAPH_FILE}:{sentence}" for sentence in sentences]
    # Mistakes known already would only be found again in every graph.
    wrong += rehearse(library.without(audit_library(library, node_classes)), node_classes)
    for sentence in wrong:
        answer(sentence)
    for sentence in remarks(library, node_classes):
        answer(f"remark: {sentence}")
    if wrong:
        raise typer.Exit(1)
    answer(f"{len(library.templates)} templates and {len(library.fragments)} fragments are fine.")


@app.command("explain")
def explain_(job: PopFile, *, config: ConfigFile = None, reference: ReferenceFolder = None) -> None:
    """Which template serves a job, and why each of the others does not."""
    loaded = settings_or_defaults(config)
    request = request_for(read_pop_file(job), _reference_models(loaded, reference))
    rows = []
    taken = False
    for verdict in explain(library_of(loaded.data), request):
        rows.append((verdict.template, "; ".join(verdict.reasons) or ("would serve it too" if taken else "serves it")))
        taken = taken or verdict.serves
    answer_table(("template", "verdict"), rows)


def _suited(loaded: LoadedConfig) -> tuple[Library, ObjectInfo]:
    """The templates for the ComfyUI in use, and its node classes."""
    library = library_of(loaded.data)
    version, node_classes = _engine_of(loaded, library)
    return suited(library, node_classes, version), node_classes


def _engine_of(loaded: LoadedConfig, library: Library) -> tuple[str, ObjectInfo]:
    """The version and the node classes to check against: of the installed ComfyUI, or of another when it last ran.

    Before its first run, the classes that it alone can know are left unchecked.
    """
    config, runtime = loaded.data, Runtime.locate()
    in_use = Shelf(runtime).in_use
    if config.comfyui_path is None and in_use.name == INSTALLED:
        return PINNED_VERSION, snapshot()
    home = worker_folder(runtime.folder, loaded.environment, name=config.dreamer_name, horde_url=config.horde_url)
    kept = kept_answer(engines_folder(home), config.comfyui_path or in_use.comfyui)
    if kept is None:
        return in_use.version or PINNED_VERSION, own_classes(library)
    version, node_classes = kept
    return version, with_any_file(node_classes)


def _is_here(loaded: LoadedConfig) -> Callable[[NamedFile], bool]:
    """Whether a file that a template names lies in a models folder; True where only the engine knows the folder."""
    root, custom = models_root(loaded.data, loaded.environment), custom_of(loaded.data, loaded.environment)
    store = store_of(loaded.data, root, custom)
    paths: dict[str, list[Path]] = {}
    for section in store.model_paths().values():
        for key, folders in section.items():
            paths.setdefault(key, []).extend(map(Path, folders.splitlines()))

    def is_here(named: NamedFile) -> bool:
        folders = [path for key in MODEL_FOLDERS.get(named.input, ()) for path in paths.get(key, ())]
        return not folders or any((folder / named.file).is_file() for folder in folders)

    return is_here


def _survey(loaded: LoadedConfig, library: Library) -> tuple[Survey, bool]:
    """What can be done with the models whose files are here; with one of each family, assumed, where none are."""
    root = models_root(loaded.data, loaded.environment)
    custom = custom_of(loaded.data, loaded.environment)
    store = store_of(loaded.data, root, custom)
    known = [store.served(record) for record in select_from_cache(loaded.data, root, custom).records if record.family]
    models = [model for model in known if isinstance(model, ServedModel)]
    assumed = not models
    if assumed:
        models = [
            ServedModel(f"any {family.value}", family, _any_files(library, family))
            for family in Family
            if family not in library.unserved
        ]
    return survey(library, models, lambda file: store.check(as_model_file(file)) is None), assumed


def _any_files(library: Library, family: Family) -> dict[str, str]:
    """Files as the first template of a family wants them."""
    wants = (each.files for each in library.templates if family in each.manifest.serves.families and each.files)
    return dict.fromkeys(next(wants, frozenset()), "any")


def _rows(library: Library) -> list[dict[str, Any]]:
    beyond = library.beyond.templates
    templates = [
        {
            "name": each.name,
            "description": each.manifest.description,
            "serves": each.manifest.serves.model_dump(mode="json", exclude_defaults=True),
            "off": "; ".join({library.unserved[family] for family in each.manifest.serves.families})
            if each in beyond
            else "",
        }
        for each in library.templates
    ]
    fragments = [
        {"name": each.name, "description": each.manifest.description, "adds": each.when.value, "off": ""}
        for each in library.fragments
    ]
    off = [{"name": name, "off": reason} for name, reason in library.disabled.items()]
    return templates + fragments + off


def _as_json(library: Library, found: Survey, made: Capabilities, assumed: bool) -> dict[str, Any]:
    return {
        "workflows": _rows(library),
        "models": [model.name for model in found.models],
        "models_are_assumed": assumed,
        "abilities": {ability.value: found.reason(ability) for ability in Ability},
        "offered": {"models": made.models, "switches": sorted(made.switches), "level": made.level, "agent": made.agent},
        "not_offered": dict(made.off),
        "unavoidable": dict(made.unavoidable),
    }


def _show(library: Library, found: Survey, made: Capabilities, assumed: bool) -> None:
    answer_table(("workflow", "serves", "state"), map(_workflow_row, _rows(library)))
    answer("")
    answer_table(
        ("kind of job", "can be done"),
        ((each.value, f"no, {found.reason(each)}" if found.reason(each) else "yes") for each in Ability),
    )
    answer("")
    if assumed:
        answer("No model of the settings is here yet: this is for one of each family.")
    if made.off:
        answer_table(("not offered", "because"), made.off)
    answer(f"Feature level {made.level}, as {made.agent}")


def _workflow_row(row: Mapping[str, Any]) -> tuple[str, str, str]:
    serves = row.get("serves", {})
    whom = ", ".join(serves.get("workflows") or serves.get("models") or serves.get("families") or [])
    what = f"adds {row['adds']}" if "adds" in row else f"{whom}: {', '.join(serves['modes'])}" if serves else ""
    return row["name"], what, f"off: {row['off']}" if row["off"] else "on"


def _reference_models(loaded: LoadedConfig, reference: Path | None) -> Mapping[str, ModelRecord]:
    """The image models of a folder with the Horde's lists; else those of the settings, as they were last fetched."""
    if reference is not None:
        return read_folder(reference, beta=True).images
    lists = asyncio.run(load_lists(loaded.data, models_root(loaded.data, loaded.environment), None))
    return with_custom(lists.images, custom_of(loaded.data, loaded.environment))

"""`render` and `workflows …`: what becomes of a job's payload; nothing is run."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from worker.commands.options import PopFile, ReferenceFolder, packaged_library, reference_models
from worker.jobs.preview import preview, read_pop_file, request_for, to_json
from worker.workflows.audit import audit_library, snapshot
from worker.workflows.select import explain

app = typer.Typer(help="Look at the workflow templates.", no_args_is_help=True)


def render(
    job: PopFile,
    *,
    reference: ReferenceFolder = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
) -> None:
    """Print the ComfyUI graph for a job; nothing is run."""
    del offline  # nothing is fetched anyway
    print(to_json(preview(read_pop_file(job), reference_models(reference), packaged_library()).graph))  # noqa: T201


@app.command("list")
def list_() -> None:
    """Every template and fragment: what it serves, or why it is off."""
    library = packaged_library()
    table = Table("name", "serves", "state", box=None)
    for template in library.templates:
        serves = template.manifest.serves
        families = ", ".join(family.value for family in serves.families) or "every family"
        table.add_row(template.name, f"{families}: {', '.join(mode.value for mode in serves.modes)}", "on")
    for fragment in library.fragments:
        table.add_row(fragment.name, f"adds {fragment.when.value}", "on")
    for name, reason in library.disabled.items():
        table.add_row(name, "", f"off: {reason}")
    Console().print(table)


@app.command("check")
def check() -> None:
    """Check every template against the nodes of the pinned ComfyUI; all that is wrong at once."""
    library = packaged_library()
    findings = audit_library(library, snapshot())
    wrong = [*library.violations, *(sentence for sentences in findings.values() for sentence in sentences)]
    for sentence in wrong:
        print(sentence)  # noqa: T201 - the command's answer
    if wrong:
        raise typer.Exit(1)
    print(f"{len(library.templates)} templates and {len(library.fragments)} fragments are fine.")  # noqa: T201


@app.command("explain")
def explain_(job: PopFile, *, reference: ReferenceFolder = None) -> None:
    """Which template serves a job, and why each of the others does not."""
    request = request_for(read_pop_file(job), reference_models(reference))
    table = Table("template", "verdict", box=None)
    taken = False
    for verdict in explain(packaged_library(), request):
        text = "; ".join(verdict.reasons) or ("would serve it too" if taken else "serves it")
        taken = taken or verdict.serves
        table.add_row(verdict.template, text)
    Console().print(table)

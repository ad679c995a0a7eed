"""The settings that are safe to change, as a form; what was changed is written into the owner's file."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_origin

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from worker.config.editing import EDITABLE, Edited, Editor, SettingsConflict, locked
from worker.config.key_types import Effect, allowed_values, bare_type, key_doc
from worker.config.live import sentences
from worker.config.load import LoadedConfig
from worker.config.schema import BridgeData
from worker.dashboard.site import Notice, Site
from worker.errors import InputRefused, WorkerError
from worker.untrusted.form import read_form

_WHEN = {
    Effect.AT_ONCE: "at once",
    Effect.ENGINE_START: "at the next engine start",
    Effect.RESTART: "after a restart",
    Effect.NONE: "never",
}

Form = Mapping[str, list[str]]


@dataclass(frozen=True)
class Field:
    """One key in the form."""

    key: str
    #: flag, number, list, text
    kind: str
    #: as it stands in the form; of a flag "on" or empty
    value: str
    text: str
    allowed: str
    default: str
    when: str
    #: what sets it in place of the file
    locked: str = ""
    least: str = ""
    most: str = ""
    step: str = "1"


@dataclass(eq=False)
class SettingsPage:
    site: Site
    editor: Editor

    def routes(self) -> list[Route]:
        return [
            Route("/settings", self.show, methods=["GET"]),
            Route("/settings", self.save, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """The settings as they are written now."""
        try:
            loaded, fingerprint = await asyncio.to_thread(self.editor.look)
        except WorkerError as error:
            return self._page(request, notice=_failed(error))
        return self._page(request, _groups(loaded), fingerprint, source=loaded.source)

    async def save(self, request: Request) -> Response:
        try:
            form = read_form(await request.body())
            loaded, fingerprint = await asyncio.to_thread(self.editor.look)
        except WorkerError as error:
            return self._page(request, notice=_failed(error), code=400)
        seen = form.get("fingerprint", [""])[0]
        try:
            wanted = changed_values(form, loaded.data)
            edited = await self.site.status.steering.change_settings(self.editor, wanted, fingerprint=seen or "none")
        except WorkerError as error:
            # With what the owner has entered, which is not lost; the next attempt is for the file as it is now.
            code = 409 if isinstance(error, SettingsConflict) else 400
            groups = _groups(loaded, form)
            return self._page(request, groups, fingerprint, source=loaded.source, notice=_failed(error), code=code)
        return self.site.after(request, _saved(edited), "/settings")

    def _page(self, request: Request, groups: Any = (), fingerprint: str = "", **more: Any) -> Response:
        values = {"source": "", "groups": groups, "fingerprint": fingerprint, **more}
        return self.site.page(request, "settings", title="Settings", **values)


def changed_values(form: Form, data: BridgeData) -> dict[str, Any]:
    """What the form has otherwise than the settings, by key. Raises InputRefused for a key that is no editable one."""
    wanted: dict[str, Any] = {}
    editable = {key for keys in EDITABLE.values() for key in keys}
    for key in dict.fromkeys(form.get("shown", ())):
        if key not in editable:
            raise InputRefused("The form has a key that can't be changed here.", remedy="Load the page again.")
        kind, before = _kind(key), getattr(data, key)
        written = form.get(key, [""])[-1].replace("\r\n", "\n")
        value: Any
        if kind == "flag":
            value = written == "on"
        elif kind == "list":
            value = tuple(line.strip() for line in written.split("\n") if line.strip())
        else:
            value = _number(written, before) if kind == "number" else written.strip()
        if value != before:
            wanted[key] = value
    return wanted


def _number(text: str, before: float) -> float | str:
    """The number, of the kind that it was; what is none is left to the check of the settings, which says so."""
    try:
        return type(before)(text.strip())
    except ValueError:
        return text.strip() or "nothing"


def _kind(key: str) -> str:
    annotation = bare_type(BridgeData.model_fields[key])
    if annotation is bool:
        return "flag"
    if annotation in (int, float):
        return "number"
    return "list" if get_origin(annotation) is tuple else "text"


def _groups(loaded: LoadedConfig, form: Form | None = None) -> tuple[tuple[str, Sequence[Field]], ...]:
    """The fields by heading; with a form, with the values that it has."""
    return tuple((heading, [_field(key, loaded, form) for key in keys]) for heading, keys in EDITABLE.items())


def _field(key: str, loaded: LoadedConfig, form: Form | None) -> Field:
    schema, kind = BridgeData.model_fields[key], _kind(key)
    doc = key_doc(schema)
    low, high = ("" if bound is None else f"{bound:g}" for bound in (doc.least, doc.most))
    value = _as_text(kind, getattr(loaded.data, key))
    if form is not None and key in form.get("shown", ()):
        value = form.get(key, [""])[-1]
    return Field(
        key=key,
        kind=kind,
        value=value,
        text=doc.text,
        allowed=allowed_values(schema),
        default=_as_text(kind, schema.default).replace("\n", ", ") or ("off" if kind == "flag" else "empty"),
        when=_WHEN[doc.effect],
        locked=locked(loaded, key),
        least=low,
        most=high,
        step="any" if bare_type(schema) is float else "1",
    )


def _as_text(kind: str, value: Any) -> str:
    if kind == "flag":
        return "on" if value else ""
    if kind == "list":
        return "\n".join(map(str, value))
    return "" if value is None else f"{value}"


def _failed(error: WorkerError) -> Notice:
    lines = [*error.message.splitlines(), *([error.remedy] if error.remedy else [])]
    return Notice("The settings were not changed.", tuple(lines), failed=True)


def _saved(edited: Edited) -> Notice:
    if not edited.changed:
        return Notice("Nothing was changed.")
    kept = [f"The file as it was is kept as {edited.kept.name}."] if edited.kept else []
    lines = (*map(str, edited.changed), *sentences(edited.changed), *edited.warnings, *kept)
    return Notice("Saved.", tuple(lines))

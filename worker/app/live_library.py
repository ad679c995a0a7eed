"""The templates that every engine in service can run; audited again whenever one of another version comes."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from loguru import logger

from worker.engine.slot import EngineSlot
from worker.workflows.audit import audit_library, files_absent, is_listed, suited_to_all
from worker.workflows.library import Library
from worker.workflows.node_classes import keep_answer, with_any_file


async def keep_node_classes(slot: EngineSlot) -> None:
    """Let `workflows check` know the node classes of the ComfyUI in use while no engine runs."""
    if slot.process is None:
        return
    settings = slot.process.settings
    try:
        await asyncio.to_thread(
            keep_answer, settings.base_directory.parent, settings.comfyui, dict(slot.object_info), slot.version
        )
    except OSError as error:
        logger.debug("The engine's node classes can't be written down: {}", error)


class LiveLibrary:
    """Call it for the library of the moment."""

    def __init__(self, library: Library) -> None:
        self._all = self._now = library
        self._told: dict[str, str] = {}
        for violation in library.violations:
            logger.bind(action="template_off").warning("Of your workflows: {}", violation)

    def __call__(self) -> Library:
        return self._now

    def audit(self, engines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Keep what all these engines can run: version of ComfyUI and node classes of each.

        The log names what was not off before.
        """
        off: dict[str, list[str]] = {}
        whole = suited_to_all(self._all, [(version, with_any_file(nodes)) for version, nodes in engines])
        for _, object_info in engines:
            findings = audit_library(self._all, with_any_file(object_info))
            for name, sentences in files_absent(self._all, lambda named: is_listed(object_info, named)).items():  # noqa: B023 - used at once
                findings.setdefault(name, []).extend(sentences)
            for name, sentences in findings.items():
                known = off.setdefault(name, [])
                known.extend(sentence for sentence in sentences if sentence not in known)
        said = {name: "; ".join(sentences) for name, sentences in off.items() if sentences}
        for name, why in said.items():
            if self._told.get(name) != why:
                logger.bind(action="template_off", template=name).warning("The workflow {} is off: {}", name, why)
        for name in self._told.keys() - said.keys():
            logger.bind(action="template_on", template=name).info("The workflow {} is on again.", name)
        self._told = said
        self._now = whole.without(off)

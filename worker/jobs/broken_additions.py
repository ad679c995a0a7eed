"""LoRAs and textual inversions that engines can't use: left out of a job, and remembered for the next ones."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from worker.bounded_dict import BoundedDict
from worker.clock import Clock, monotonic
from worker.engine.graph_trace import embeddings_in
from worker.errors import Addition, AdditionKind
from worker.workflows.request import Embedding, LoraFile, RenderRequest

#: What is known to be broken is left out for so long; its file may be another by then.
BROKEN_S = 3600.0
#: Files remembered at most; the one noted first goes.
MOST_FILES = 1000
#: Jobs in a row that broke an engine with the same addition, after which it counts as broken.
MOST_SUSPICIONS = 2


def addition_of(found: LoraFile | Embedding) -> Addition:
    """A file that a job names, as graphs know it."""
    if isinstance(found, LoraFile):
        return Addition(AdditionKind.LORA, found.file)
    return Addition(AdditionKind.TEXTUAL_INVERSION, found.file)


def additions_in(request: RenderRequest) -> frozenset[Addition]:
    """All LoRAs of a request, and all textual inversions that its texts name."""
    texts = (request.prompt, request.negative_prompt, *(each.text for each in request.extra_texts))
    named = (embeddings_in(text) for text in (*texts, request.qr.prompt if request.qr else ""))
    return frozenset(map(addition_of, request.loras)).union(*named)


def leave_out(request: RenderRequest, without: Collection[Addition]) -> RenderRequest:
    """The same request without these files: LoRAs dropped, `embedding:name` taken out of every text."""
    loras = {each.file for each in without if each.kind is AdditionKind.LORA}
    embeddings = [each.file for each in without if each.kind is AdditionKind.TEXTUAL_INVERSION]
    return replace(
        request,
        loras=tuple(lora for lora in request.loras if lora.file not in loras),
        prompt=_strip(request.prompt, embeddings),
        negative_prompt=_strip(request.negative_prompt, embeddings),
        qr=replace(request.qr, prompt=_strip(request.qr.prompt, embeddings)) if request.qr else None,
        extra_texts=tuple(replace(each, text=_strip(each.text, embeddings)) for each in request.extra_texts),
    )


def _strip(text: str, names: Collection[str]) -> str:
    for name in names:
        named = rf"embedding:{re.escape(name)}"
        text = re.sub(rf"\({named}(:[^()]*)?\)|{named}(?![^\s,():])", "", text)
    return text


@dataclass
class BrokenAdditions:
    """Remembers what engines could not use. Bounded; what is noted is forgotten after `BROKEN_S`."""

    clock: Clock = monotonic
    _since: BoundedDict[Addition, float] = field(default_factory=lambda: BoundedDict(MOST_FILES), init=False)
    _suspicions: BoundedDict[Addition, int] = field(default_factory=lambda: BoundedDict(MOST_FILES), init=False)

    def note(self, additions: Collection[Addition]) -> None:
        """An engine could not use these. Of several at once none is known to be the one."""
        if len(additions) == 1:
            for addition in additions:
                self._since[addition] = self.clock()
        else:
            self.suspect(additions)

    def suspect(self, additions: Collection[Addition]) -> None:
        """An engine broke while it worked with these; one of them may be why."""
        for addition in additions:
            self._suspicions[addition] = self._suspicions.get(addition, 0) + 1
            if self._suspicions[addition] >= MOST_SUSPICIONS:
                self._suspicions.pop(addition)
                self._since[addition] = self.clock()

    def clear(self, additions: Collection[Addition]) -> None:
        """A job with these was rendered: nothing speaks against them any more."""
        for addition in additions:
            self._suspicions.pop(addition, None)

    def forget(self, addition: Addition) -> None:
        """Its file is another now."""
        self._since.pop(addition, None)

    def __contains__(self, addition: object) -> bool:
        since = self._since.get(addition) if isinstance(addition, Addition) else None
        return since is not None and self.clock() - since < BROKEN_S

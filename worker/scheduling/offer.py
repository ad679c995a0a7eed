"""Build a pop: the owner's settings, reduced to what templates, files and engines can serve.

A switch of the pop (`allow_…`) is on only if every job that it lets in can be served. Jobs that come without a switch
are held back by the feature level, where the server's table has one for them.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from loguru import logger

from worker.clock import Clock, monotonic
from worker.config.schema import BridgeData
from worker.horde.agent import level_of, lowered
from worker.horde.feature_levels import GATES, HIGHEST_LEVEL, Gate, level_without
from worker.horde.messages import PopRequest
from worker.units import counted
from worker.workflows.auxiliary_files import all_files
from worker.workflows.capabilities import Ability, Survey, survey
from worker.workflows.families import TRAITS, AuxiliaryFile
from worker.workflows.library import Library
from worker.workflows.request import ServedModel
from worker.workflows.samplers import BOUNDED_SAMPLER, CONTRACT_VERSION

#: Models in a pop; the server uses no more.
MAX_MODELS = 300
#: Threads in a pop. The server uses them for queue estimates only, and refuses more.
MAX_THREADS = 50
#: Seconds between two looks for files that came or went.
LOOK_EVERY_S: Final = 5.0

#: Switch of the pop → kinds of jobs that it lets in.
SWITCHES: Final = {
    "allow_img2img": (Ability.IMG2IMG, Ability.REMIX),
    "allow_painting": (Ability.PAINTING,),
    "allow_post_processing": (Ability.POST_PROCESSING,),
    "allow_controlnet": (Ability.CONTROL,),
    "allow_sdxl_controlnet": (Ability.TRANSPARENT, Ability.QR_CODE),
    "allow_lora": (Ability.LORAS,),
}


@dataclass(frozen=True)
class Capabilities:
    """What can be offered. `off`: a switch the owner left on, a model or a gate → why it is not offered."""

    models: tuple[str, ...]
    switches: frozenset[str]
    level: int
    agent: str
    off: tuple[tuple[str, str], ...] = ()
    #: kinds of jobs that come all the same and fail here → why
    unavoidable: tuple[tuple[str, str], ...] = ()
    #: version of the contract that the engine's samplers keep; None for none
    sampler_contract: str | None = None


def decide(config: BridgeData, found: Survey, agent: str) -> Capabilities:
    """What to offer. `agent` claims the highest level; `bridge_agent` in the settings replaces it."""
    off = dict(found.lacking.get(Ability.PICTURES, {}))
    families = {model.name: model.family for model in found.models}
    # Where a second pass comes without a switch, further pictures come with those of img2img.
    own = [Ability.HIRES] + ([Ability.REMIX] if config.allow_img2img else [])
    for ability in own:
        for name, reason in found.lacking.get(ability, {}).items():
            if TRAITS[families[name]].hires_unasked:
                off.setdefault(name, reason)
    found = found.among(name for name in families if name not in off)
    switches = set()
    for switch, abilities in SWITCHES.items():
        if getattr(config, switch):
            if reason := next(filter(None, map(found.reason, abilities)), ""):
                off[switch] = reason
            else:
                switches.add(switch)
    closed = _closed_gates(found, switches)
    level = level_without(closed)
    off |= {gate.value: reason for gate, reason in closed.items()}
    agent = config.bridge_agent or lowered(agent, level)
    claimed = level_of(agent) or 0
    for name, family in families.items():
        # Below it the server offers no job of any model to a worker that lists such a one, or none with a hires fix.
        if claimed < (least := TRAITS[family].feature_level):
            off.setdefault(name, f"needs the feature level {least}, and the agent claims {claimed}")
    names = tuple(name for name in families if name not in off)
    unavoidable = tuple(_unavoidable(found.among(names)))
    contract = CONTRACT_VERSION if BOUNDED_SAMPLER in found.samplers else None
    return Capabilities(names, frozenset(switches), level, agent, tuple(off.items()), unavoidable, contract)


def _closed_gates(found: Survey, switches: Iterable[str]) -> dict[Gate, str]:
    """Gates to close: kinds of jobs without a switch that would come and can't be served → why."""
    closed = {}
    # With such a model in the list, the server asks for that switch before it offers a QR code.
    asks = any(TRAITS[model.family].qr_code_by_switch for model in found.models)
    comes = not asks or "allow_sdxl_controlnet" in switches
    if comes and not found.works(Ability.QR_CODE):
        closed[Gate.QR_CODE] = found.reason(Ability.QR_CODE)
    if "allow_post_processing" in switches and not found.works(Ability.NEW_POST_PROCESSING):
        closed[Gate.NEW_POST_PROCESSING] = found.reason(Ability.NEW_POST_PROCESSING)
    return closed


def _unavoidable(found: Survey) -> Iterable[tuple[str, str]]:
    for ability in (Ability.HIRES, Ability.TILING):
        if not found.works(ability):
            yield ability.value, found.reason(ability)


@dataclass(eq=False)
class CapabilityWatch:
    """The current capabilities; tried anew in a thread when models or files change.

    A survey takes 25 ms for one model and 240 ms for 300 on one core, and reading all files as much again (measured),
    which an event loop must not.
    """

    library: Callable[[], Library]
    agent: str
    has: Callable[[AuxiliaryFile], bool]
    clock: Clock = field(default=monotonic, kw_only=True)

    def __post_init__(self) -> None:
        self._looked_at = float("-inf")
        self._wanted: tuple[object, ...] = ()
        self._known_for: tuple[object, ...] = ()
        self._found: Survey | None = None
        self._surveying: asyncio.Future[Survey | None] | None = None
        self._decided: tuple[object, Capabilities] | None = None

    def capabilities(self, config: BridgeData, models: tuple[ServedModel, ...]) -> Capabilities | None:
        """What holds for these models, or did a moment ago; None before the first survey has ended.

        Called on the event loop.
        """
        now, wanted = self.clock(), (models, self.library())
        due = wanted != self._wanted or now - self._looked_at > LOOK_EVERY_S
        if due and self._surveying is None:
            self._wanted, self._looked_at = wanted, now
            self._surveying = asyncio.get_running_loop().run_in_executor(None, self._survey, *wanted)
            self._surveying.add_done_callback(self._surveyed)
        if self._found is None:
            return None
        if self._decided is None or self._decided[0] is not config:
            decided = decide(config, self._found, self.agent)
            if self._decided is None or self._decided[1] != decided:
                _tell(decided)
            self._decided = (config, decided)
        return self._decided[1]

    def _survey(self, models: tuple[ServedModel, ...], library: Library) -> Survey | None:
        """What can be done; None for as before. In a thread: files that were never looked at are read."""
        absent = frozenset(file for file in all_files() if not self.has(file))
        known_for = (models, absent, library)
        if known_for == self._known_for:
            return None
        self._known_for = known_for
        return survey(library, models, lambda file: file not in absent)

    def _surveyed(self, surveying: "asyncio.Future[Survey | None]") -> None:
        self._surveying = None
        if surveying.cancelled():
            return
        try:
            found = surveying.result()
        except Exception:  # what was found before holds until models or files change again
            logger.exception("A defect in the worker: what can be served was not found out")
        else:
            if found is not None:
                self._found = found
                # Told again only where it decides otherwise.
                self._decided = self._decided and (None, self._decided[1])


def _tell(capabilities: Capabilities) -> None:
    logger.bind(action="capabilities").info(
        "Offering {} at feature level {}, with {}",
        counted(len(capabilities.models), "model"), capabilities.level,
        ", ".join(sorted(capabilities.switches)) or "no switch on",
    )  # fmt: skip
    if capabilities.level < HIGHEST_LEVEL:
        logger.bind(action="level_lowered").warning(
            "Below feature level {} the Horde sends no jobs with {}, and credits 90 % of the kudos",
            HIGHEST_LEVEL,
            ", ".join(gate.value for level, gates in GATES.items() if level > capabilities.level for gate in gates),
        )
    for what, reason in capabilities.off:
        logger.bind(action="not_offered").warning("Not offered: {} ({})", what, reason)
    for what, reason in capabilities.unavoidable:
        logger.bind(action="turned_away").warning("Jobs with {} come all the same, and fail here ({})", what, reason)


@dataclass(frozen=True)
class PopPlan:
    """What to ask for. `max_pixels` is width times height."""

    models: tuple[str, ...]
    max_pixels: int
    #: images of one job
    amount: int
    threads: int


def build_offer(config: BridgeData, capabilities: Capabilities, plan: PopPlan) -> PopRequest | None:
    """The pop for those of the plan's models that can be served; None if there are none."""
    names = [name for name in plan.models if name in capabilities.models]
    if not names:
        return None
    return PopRequest(
        name=config.dreamer_name,
        priority_usernames=list(config.priority_usernames),
        nsfw=config.nsfw,
        models=names[:MAX_MODELS],
        bridge_agent=capabilities.agent,
        threads=min(plan.threads, MAX_THREADS),
        require_upfront_kudos=config.require_upfront_kudos,
        amount=plan.amount,
        extra_slow_worker=config.extra_slow_worker,
        max_pixels=plan.max_pixels,
        blacklist=list(config.blacklist),
        allow_unsafe_ipaddr=config.allow_unsafe_ip,
        **{switch: switch in capabilities.switches for switch in SWITCHES},
        limit_max_steps=config.limit_max_steps,
        sampler_execution_contract_version=capabilities.sampler_contract,
    )

"""What an owner is asked, as data, and the settings that follow from the answers. Pure.

A question has a text, a default, and a reader that turns what was typed into a value or says why not. The answers
become values of bridgeData.yaml; which of them are asked for depends on the machine and on earlier answers.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from worker.config.active_hours import read_hours
from worker.config.key_types import ANONYMOUS_KEY, API_KEY_LENGTH, in_yaml
from worker.config.schema import GROUPS, BridgeData
from worker.config.serving_keys import DEFAULT_NAME
from worker.engine.cards import CardFacts
from worker.setup.card import MachineFacts
from worker.setup.tiers import Models, Speed, Tier, tier_of
from worker.units import GIB

REGISTER: Final = "https://aihorde.net/register"
#: Sizes on disk of one model of each kind in GB, by the Horde's reference.
_MODEL_GB: Final = {Models.SD15: 2.5, Models.SDXL: 7.0, Models.FLUX: 7.0}
#: Beside the models: the safety checker's weights, upscalers, face repair, ControlNets, the largest rounded up.
_BESIDE_GB: Final = 10
_FLUX_GB: Final = 17
#: Models served at most by default: with more, a card loads more than it renders.
_MOST_MODELS: Final = 5
#: SD1.5 models with many requests and no licence in the way; TOP n would choose larger ones.
SD15_MODELS: Final = (
    "Deliberate",
    "stable_diffusion",
    "Dreamshaper",
    "ICBINP - I Can't Believe It's Not Photography",
    "Anything Diffusion",
)
INPAINTING_MODEL: Final = "Deliberate Inpainting"
FLUX_MODEL: Final = "Flux.1-Schnell fp8 (Compact)"
_LONGEST_NAME: Final = 100
#: What word processors and web pages put around a text.
_QUOTES: Final = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb<>"
_INVISIBLE: Final = re.compile("[\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u2064\\ufeff]")

Answers = dict[str, Any]


@dataclass(frozen=True)
class Situation:
    """What is known before the first question."""

    machine: MachineFacts
    #: settings in force: the owner's, or the template's
    before: BridgeData
    #: the file exists already: its values are kept unless the owner says otherwise
    has_file: bool = False
    #: bytes free where models are or will be
    free: int = 0


@dataclass(frozen=True)
class Question:
    """One question. `default` None: an answer is needed."""

    key: str
    text: str
    default: Callable[[Situation, Answers], Any]
    #: the typed text → the value. Raises ValueError with a sentence.
    read: Callable[[str, Situation, Answers], Any]
    #: lines above the question
    about: Callable[[Situation, Answers], str] = lambda *_: ""
    asked: Callable[[Situation, Answers], bool] = lambda *_: True
    #: the key of another question, without whose yes it is not asked, and no
    needs: str = ""
    secret: bool = False
    #: a name of a check that the Horde answers
    check: str = ""


def read_key(text: str, *_: Any) -> str:
    """An API key as people paste it: with quotes, blanks, the key's name before it. Raises ValueError."""
    key = _INVISIBLE.sub("", text).strip()
    key = re.sub(r"^(?:api_?key|apikey|key)\s*[:=]\s*", "", key, flags=re.IGNORECASE)
    key = key.strip().strip(_QUOTES).strip()
    if not key:
        raise ValueError(f"No key was given. A key is had for free at {REGISTER}.")
    if key == ANONYMOUS_KEY:
        raise ValueError(f"That is the anonymous key, with which no worker can serve. Get your own at {REGISTER}.")
    if not re.fullmatch(r"[!-~]+", key):
        raise ValueError("A key has no blanks and only plain characters; copy it again, by itself.")
    if len(key) != API_KEY_LENGTH:
        raise ValueError(f"A key has {API_KEY_LENGTH} characters, this has {len(key)}; copy it again, whole.")
    return key


def read_name(text: str, *_: Any) -> str:
    """A worker's name. Raises ValueError."""
    name = " ".join(_INVISIBLE.sub("", text).split()).strip("\"'\u201c\u201d")
    if not name:
        raise ValueError("A worker needs a name; everyone on the Horde sees it.")
    if any(unicodedata.category(character) == "Cs" for character in name):
        raise ValueError("This terminal sends characters that are no UTF-8; use plain letters and digits.")
    if not name.replace("\u200d", "").isprintable():
        raise ValueError("The name has a control character; type it anew.")
    if re.search(r"[/\\]", name):
        raise ValueError("A name with a slash can't be looked up at the Horde; leave it out.")
    if re.search("[<>]", name):
        raise ValueError("The Horde removes < and > from names; leave them out.")
    if not name.strip("."):
        raise ValueError("A name of dots alone can't be looked up at the Horde.")
    if "colab" in name.lower():
        raise ValueError("The Horde refuses names that contain colab.")
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"A name has {_LONGEST_NAME} characters at most, this has {len(name)}.")
    if name == DEFAULT_NAME:
        raise ValueError("That is the template's name, which somebody else has; choose one of your own.")
    return name


def read_yes_no(text: str, *_: Any) -> bool:
    """Raises ValueError."""
    word = text.strip().lower()
    if word in {"y", "yes", "true", "1", "on", "j", "ja", "o", "oui", "s", "si", "sí"}:
        return True
    if word in {"n", "no", "false", "0", "off", "nein", "non"}:
        return False
    raise ValueError("Answer y or n.")


def number(low: float, high: float, unit: str) -> Callable[..., int]:
    """A reader of whole numbers between two bounds."""

    def read(text: str, *_: Any) -> int:
        cleaned = re.sub(rf"\s*({unit}|gib?|gb|g)\.?$", "", text.strip(), flags=re.IGNORECASE).replace(",", ".")
        try:
            value = float(cleaned)
        except ValueError:
            raise ValueError(f"A number of {unit} is needed, such as {max(int(low), 50)}.") from None
        if not low <= value <= high:
            raise ValueError(f"Between {low:g} and {high:g} {unit} are possible.")
        return int(value)

    return read


def read_models(text: str, situation: Situation, _: Answers) -> str:
    """One of the kinds, by number or by word; `keep` where there is a file. Raises ValueError."""
    word = text.strip().lower()
    choices = ["sd15", "sdxl", "flux", *(["keep"] if situation.has_file else [])]
    if word.isdecimal() and 1 <= int(word) <= len(choices):
        return choices[int(word) - 1]
    if word in choices:
        return word
    raise ValueError(f"Answer with a number from 1 to {len(choices)}.")


def read_folder(text: str, *_: Any) -> str:
    """A folder's path as it is typed, or dragged into a terminal with quotes. Raises ValueError."""
    path = text.strip().strip("\"'")
    if not path or not path.isprintable():
        raise ValueError("A path is needed, such as ./models/.")
    return path


def _read_hours(text: str, *_: Any) -> list[str]:
    """Times separated by commas; none for always. Raises ValueError."""
    times = [part.strip() for part in re.split("[,;]", text.strip("[] \"'")) if part.strip()]
    if [time.lower() for time in times] in ([], ["always"], ["all"], ["24/7"]):
        return []
    for time in times:
        try:
            read_hours(time)
        except ValueError as error:
            raise ValueError(f"{time[:40]!r}: {error}.") from None
    return times


def tier(situation: Situation, answers: Answers) -> Tier:
    """What the machine can do, with the memory its owner gave where none was found."""
    machine = situation.machine
    if "vram" in answers:
        card = CardFacts(machine.card.name if machine.card else "card", answers["vram"] * GIB)
        machine = MachineFacts(card if answers["vram"] else None, machine.ram, machine.accelerator)
    return tier_of(machine)


def suggested_name(situation: Situation, answers: Answers) -> str | None:
    """The name in force; else one of the account's name and the card's."""
    if situation.before.dreamer_name != DEFAULT_NAME:
        return situation.before.dreamer_name
    owner = re.sub(r"#\d+$", "", str(answers.get("account", "")))
    card = situation.machine.card
    short = re.sub(r"NVIDIA|AMD|GeForce|Radeon|Graphics|an |a |card|DirectML", "", card.name if card else "CPU")
    name = " ".join(f"{owner} {short}".split())
    try:
        return read_name(name) if owner else None
    except ValueError:
        return None


def _default_models(situation: Situation, answers: Answers) -> str:
    return "keep" if situation.has_file else tier(situation, answers).models.value


def _about_models(situation: Situation, answers: Answers) -> str:
    found = tier(situation, answers)
    lines = [
        "  1 SD1.5: 2 to 4 GB on disk each, for any card",
        "  2 what is asked for most, SDXL too: 7 GB each, 8 GB of card, 32 GB of RAM",
        "  3 Flux as well: 17 GB, 16 GB of card, 32 GB of RAM",
    ]
    if situation.has_file:
        lines.append(f"  4 as it is: {', '.join(situation.before.models_to_load)}")
    return "\n".join([*lines, *([found.note] if found.note else [])])


def _about_card(situation: Situation, answers: Answers) -> str:
    found = tier(situation, answers)
    speed = "" if found.speed in (Speed.NO_CARD, Speed.USUAL) else f", {found.speed.value}"
    changes = ", ".join(
        f"{key} {in_yaml(value)}"
        for key, value in found.settings.items()
        if value != getattr(situation.before, key) or key == "max_power"
    )
    return f"This machine ({found.title}{speed}) would begin with: {changes}."


def _default_disk(situation: Situation, answers: Answers) -> int:
    free = answers.get("free", situation.free) / 1e9
    wanted = _BESIDE_GB + _MOST_MODELS * _MODEL_GB[_kind(situation, answers)] + 20
    return int(max(15, min(wanted + (_FLUX_GB if answers.get("models") == "flux" else 0), free * 0.8)))


def _kind(situation: Situation, answers: Answers) -> Models:
    chosen = answers.get("models", "keep")
    return tier(situation, answers).models if chosen == "keep" else Models(chosen)


def _feature(key: str, text: str, *, least_gib: float = 0, needs: str = "") -> Question:
    """A kind of job: accepted by default where the card has the memory; a file's own word counts more."""

    def default(situation: Situation, answers: Answers) -> bool:
        if situation.has_file:
            return bool(getattr(situation.before, key))
        card = situation.machine.card
        memory = answers.get("vram", (card.memory if card else 0) / GIB)
        return bool(memory >= least_gib * 0.93)

    return Question(key, text, default, read_yes_no, needs=needs)


#: All questions, in the order in which they are asked.
QUESTIONS: Final = (
    Question(
        "api_key", "Your API key", lambda s, _: _known_key(s), read_key, secret=True, check="key",
        about=lambda *_: f"It decides who earns the kudos. Get one at {REGISTER}; it is not shown while you type.",
    ),
    Question(
        "dreamer_name", "Your worker's name", suggested_name, read_name, check="name",
        about=lambda *_: "Unique on the whole Horde; everyone sees it.",
    ),
    Question(
        "vram", "Gigabytes of memory on your card (0: no card)", lambda *_: None, number(0, 1024, "GB"),
        asked=lambda s, _: s.machine.card is not None and not s.machine.card.memory,
    ),
    Question("models", "Which models", _default_models, read_models, about=_about_models),
    Question(
        "tune", "Use these values", lambda s, _: not s.has_file, read_yes_no, about=_about_card,
    ),
    _feature("nsfw", "Take jobs that may show nudity"),
    _feature("allow_img2img", "Jobs that start from a picture"),
    _feature("allow_painting", "Jobs that repaint a part of a picture", needs="allow_img2img"),
    _feature("allow_post_processing", "Upscaling, face repair, background removal", least_gib=6),
    _feature("allow_lora", "LoRAs, fetched from CivitAI when a job names one (much asked for)", least_gib=6),
    _feature("allow_controlnet", "Pictures guided by outlines, poses, depth", least_gib=8, needs="allow_img2img"),
    _feature("allow_sdxl_controlnet", "The same for SDXL", least_gib=16, needs="allow_controlnet"),
    Question(
        "active_hours", "Hours to serve", lambda s, _: ", ".join(s.before.active_hours) or "always", _read_hours,
        about=lambda *_: "Always, or hours such as 22:00-07:00, or mon-fri 18:00-23:30, sat-sun 00:00-24:00.",
    ),
    Question("cache_home", "Folder for models", lambda s, _: s.before.cache_home, read_folder, check="folder"),
    Question(
        "disk", "Gigabytes of disk for models", _default_disk, number(5, 100_000, "GB"),
        about=lambda s, a: f"{a.get('free', s.free) / 1e9:.0f} GB are free there.",
        asked=lambda _, answers: answers.get("models") != "keep",
    ),
)  # fmt: skip


def _known_key(situation: Situation) -> str | None:
    key = situation.before.api_key.get_secret_value()
    return None if key == ANONYMOUS_KEY else key


def settings_of(situation: Situation, answers: Answers) -> dict[str, Any]:
    """The answers as values of bridgeData.yaml: only what was asked about, so that nothing else of a file changes."""
    names = {question.key for question in QUESTIONS} & BridgeData.model_fields.keys()
    settings = {name: answers[name] for name in names if name in answers}
    if settings.get("active_hours") == "always":  # the default, taken with Enter
        settings["active_hours"] = []
    elif isinstance(settings.get("active_hours"), str):
        settings["active_hours"] = _read_hours(settings["active_hours"])
    # What depends on an answer of no is no as well.
    for question in QUESTIONS:
        if question.needs and settings.get(question.needs) is False:
            settings[question.key] = False
    if answers.get("tune"):
        settings |= tier(situation, answers).settings
    if answers.get("models", "keep") != "keep":
        settings |= _models(situation, answers)
    return {name: value for name, value in settings.items() if not _is_so(situation, name, value)}


def _models(situation: Situation, answers: Answers) -> dict[str, Any]:
    """models_to_load and what goes with it, within the disk the owner gives."""
    kind, disk = Models(answers["models"]), answers.get("disk", _default_disk(situation, answers))
    room = disk - _BESIDE_GB - (_FLUX_GB if kind is Models.FLUX else 0)
    count = max(1, min(_MOST_MODELS, int(room / _MODEL_GB[kind])))
    if kind is Models.SD15:
        chosen = list(SD15_MODELS[:count])
        if answers.get("allow_painting") and count > 1:
            chosen[-1] = INPAINTING_MODEL
    else:
        chosen = [f"TOP {count}", *([FLUX_MODEL] if kind is Models.FLUX else [])]
    loras = int(max(10, min(50, (room - count * _MODEL_GB[kind]) * 0.8)))
    return {
        "models_to_load": chosen,
        "load_large_models": kind is Models.FLUX,
        **({"max_lora_cache_size": loras} if answers.get("allow_lora") else {}),
    }


def _is_so(situation: Situation, name: str, value: Any) -> bool:
    """Whether the file says so already. Key and name are always written: a newcomer looks for them."""
    if name in ("api_key", "dreamer_name"):
        return False
    now = getattr(situation.before, name)
    return bool((list(now) if isinstance(now, tuple) else now) == value)


def summary(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows to look at before anything is written: key, and its value as people read it; the API key masked."""
    rows = []
    for name, value in settings.items():
        if name == "api_key":
            shown = "••••" + str(value)[-4:]
        elif isinstance(value, (list, tuple)):
            shown = ", ".join(map(str, value))
        else:
            shown = in_yaml(value)
        rows.append((name, shown))
    order = {name: number for number, name in enumerate(name for group in GROUPS for name in group.model_fields)}
    return sorted(rows, key=lambda row: order.get(row[0], len(order)))

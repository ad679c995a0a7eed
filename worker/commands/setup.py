"""`setup`: questions on a terminal, and bridgeData.yaml written from the answers."""

import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from loguru import logger

from worker import logs
from worker.as_typed import as_typed
from worker.commands.options import AsJson, ConfigFile
from worker.commands.output import answer, answer_json, answer_table
from worker.config.environment import from_environment, with_dotenv
from worker.config.key_types import ANONYMOUS_KEY
from worker.config.load import FILE_NAME, TEMPLATE, check_text, contradictions, load_config, read_text, read_value
from worker.config.paths import cache_home
from worker.config.schema import FIELDS, BridgeData
from worker.config.serving_keys import DEFAULT_NAME
from worker.config.setting import Setting, unknown
from worker.config.write_back import PRIVATE, with_changes, write_settings
from worker.engine.install import Runtime
from worker.errors import ConfigError
from worker.horde.agent import AGENT
from worker.network_variables import check_network_variables
from worker.setup.accounts import NameState, name_state, owner_of
from worker.setup.card import machine_facts
from worker.setup.dialogue import Check, Nobody, answers_to
from worker.setup.questions import QUESTIONS, Answers, Question, Situation, settings_of, summary
from worker.setup.terminal import agreed, ask_line, ask_secret, is_terminal, width
from worker.units import free_bytes, nearest_folder
from worker.untrusted.text import visible

#: The longest key file that is read, in bytes: a key with a line break, and what editors add.
MOST_KEY_BYTES = 1000
#: What the template says to whoever does this by hand.
COPY_IT = " Copy this file to bridgeData.yaml and change the copy."

#: Options that may have no effect: when that is.
UNUSED = {
    "disk": "--disk has no effect while the models stay as they are; it counts with --models sd15, sdxl or flux.",
    "vram": "--vram has no effect: it is for a card whose driver does not tell how much memory there is.",
}

_QUESTION_KEYS = frozenset(question.key for question in QUESTIONS)


def setup(
    *,
    config: ConfigFile = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: options, AIWORKER_*, then defaults.")] = False,
    name: Annotated[str | None, typer.Option("-n", "--name", "--worker-name", help="The worker's name.")] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="File with the API key; - is standard input.")
    ] = None,
    models: Annotated[str | None, typer.Option("--models", help="sd15, sdxl, flux or keep.")] = None,
    disk: Annotated[int | None, typer.Option("--disk", help="Gigabytes of disk for models.")] = None,
    vram: Annotated[int | None, typer.Option("--vram", help="Gigabytes of memory on the card.")] = None,
    tune: Annotated[
        bool | None, typer.Option("--tune/--no-tune", help="Take the performance values for this card, or not.")
    ] = None,
    values: Annotated[list[str] | None, typer.Option("--set", help="Any setting, as KEY=VALUE; repeatable.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Check key and name nowhere.")] = False,
    as_json: AsJson = False,
) -> None:
    """Answer a few questions; bridgeData.yaml is written from them."""
    if not yes and not is_terminal():
        raise ConfigError(
            "There is no terminal to ask questions on.",
            remedy="Use --yes with --name and --key-file, or with AIWORKER_* variables.",
        )
    assigned = _assignments(values or [])
    options = {"dreamer_name": name, "models": models, "disk": disk, "vram": vram, "tune": tune}
    given = {key: str(value) for key, value in options.items() if value is not None}
    if key_file is not None:
        given["api_key"] = _key_of(key_file)
    done = run_setup(config or Path(FILE_NAME), given, assigned, ask=not yes, offline=offline, quiet=as_json)
    if as_json:
        answer_json(done)


def offer(file: Path) -> bool:
    """Ask for the settings where there are none and somebody sits at the terminal. Whether they were written."""
    if file.exists() or file.is_symlink() or not is_terminal():
        return False
    screen = Terminal()
    screen.tell(f"There are no settings yet ({file}).")
    if not screen.confirm("Answer a few questions now", default=True):
        return False
    run_setup(file, {}, {}, ask=True, offline=False, quiet=False)
    return True


def run_setup(
    file: Path, given: Mapping[str, str], assigned: Mapping[str, Setting], *, ask: bool, offline: bool, quiet: bool
) -> dict[str, Any]:
    """Ask what is not given, check, write; what was done, for programs. Raises WorkerError, typer.Abort."""
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"There is no folder {file.absolute().parent}.", remedy="Create it, or name another file.")
    has_file = file.exists()
    before = load_config(file if has_file else TEMPLATE, environment={})
    environment = with_dotenv(file.parent, os.environ)
    url = load_config(file if has_file else TEMPLATE, environment=os.environ).data.horde_url
    written, _ = from_environment(environment)
    stated = written | dict(assigned)
    given = {**{key: str(each.value) for key, each in stated.items() if key in _QUESTION_KEYS}, **given}
    extra: dict[str, Any] = {key: read_value(each) for key, each in stated.items() if key not in _QUESTION_KEYS}
    # A copy of the template says nothing of its owner's wishes.
    untouched = (DEFAULT_NAME, ANONYMOUS_KEY)
    is_untouched = (before.data.dreamer_name, before.data.api_key.get_secret_value()) == untouched
    if "models_to_load" in extra:
        given.setdefault("models", "sd15" if is_untouched else "keep")
    if not offline:
        check_network_variables(os.environ)
    situation = Situation(
        machine_facts(Runtime.locate().accelerator), before.data, not is_untouched, _free(before.data, environment)
    )
    screen: Terminal | Nobody = Terminal() if ask else Nobody(lambda _: None)
    if ask:
        screen.tell(f"{file.name} for this machine: {situation.machine}.")
        screen.tell("Enter takes the answer in brackets; Ctrl+C leaves everything as it is.")
    try:
        answers = answers_to(
            situation, screen, given=given, checks=_checks(extra.get("horde_url") or url, environment, offline=offline)
        )
        settings: dict[str, Any] = {**settings_of(situation, answers), **extra}
        logs.redactor.add([str(settings.get("api_key", ""))])
        base = read_text(file) if has_file else read_text(TEMPLATE).replace(COPY_IT, "")
        text = with_changes(base, settings, str(file))
        check_text(text, str(file))
        unasked = {key: read_value(each) for key, each in stated.items() if key in _QUESTION_KEYS - answers.keys()}
        warnings = [each for key, each in UNUSED.items() if key in given.keys() - answers.keys()]
        warnings += _contradictions(base, {**settings, **unasked}, str(file))
        for warning in warnings:
            logger.warning("{}", warning)
        if isinstance(screen, Terminal):
            rows = summary(settings)
            answer_table(("setting", "value"), rows)
            if not screen.confirm(f"Write this to {file}", default=True):
                screen.tell("Nothing was written.")
                raise typer.Exit(1)
    except (KeyboardInterrupt, EOFError) as error:
        how = "" if isinstance(error, KeyboardInterrupt) else " The input has ended."
        sys.stderr.write(f"\nNothing was written.{how}\n")
        raise typer.Exit(130 if isinstance(error, KeyboardInterrupt) else 1) from None
    kept = write_settings(file, text, mode=PRIVATE)
    if not quiet:
        answer(f"Written: {file}." + (f" As it was before: {kept}." if kept else ""))
        answer("Next: `horde-bridge doctor` checks everything, `horde-bridge` serves.")
    return {
        "file": str(file),
        "kept": str(kept) if kept else None,
        "account": answers.get("account"),
        "name": answers.get("name_state"),
        "settings": dict(summary(settings)),
        "warnings": warnings,
    }


def _contradictions(base: str, settings: Mapping[str, Any], file: str) -> list[str]:
    """What these settings make of one another, and of those that the text had: a sentence each, with what to do."""
    known = contradictions(base, file)
    found = [each for each in contradictions(with_changes(base, settings, file), file) if each not in known]
    remedy = " Give values that go together, or leave one of them out."
    return [f"{each}{remedy if ' is changed from ' in each else ''}" for each in found]


def _free(config: BridgeData, environment: Mapping[str, str]) -> int:
    try:
        return free_bytes(cache_home(config, environment))
    except OSError:
        return shutil.disk_usage(Path.cwd()).free


def _checks(url: str, environment: Mapping[str, str], *, offline: bool) -> Mapping[str, Check]:
    def folder(value: str, answers: Answers) -> str:
        path = cache_home(BridgeData.model_validate({"cache_home": value}), environment)
        nearest = nearest_folder(path)
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise ConfigError(f"{path} can't be used: {nearest} is no folder that can be written to.")
        answers["free"] = free_bytes(nearest)
        return ""

    if offline:
        return {"folder": folder}

    def key(value: str, answers: Answers) -> str:
        user = owner_of(url, value, agent=AGENT)
        answers["account"] = user.username
        trusted = "trusted" if user.trusted else "not trusted yet"
        return f"That is the account {user.username} ({user.kudos:,.0f} kudos, {trusted})."

    def name(value: str, answers: Answers) -> str:
        state = name_state(url, answers["api_key"], value, agent=AGENT)
        answers["name_state"] = state.value
        return "The name is free." if state is NameState.FREE else "That is a worker of yours already."

    return {"key": key, "name": name, "folder": folder}


def _assignments(texts: Sequence[str]) -> dict[str, Setting]:
    """KEY=VALUE as written. Raises typer.BadParameter."""
    found = {}
    for text in texts:
        key, sign, value = text.partition("=")
        field = FIELDS.get(key.strip())
        if not sign or field is None:
            what = f"{key.strip()} {unknown(None)}" if sign else f"{text!r} is not KEY=VALUE."
            raise typer.BadParameter(what, param_hint="--set")
        found[field] = Setting(key.strip(), value.strip(), "--set")
    return found


def _key_of(file: Path) -> str:
    """The key in a file, or on standard input for `-`. Raises ConfigError."""
    try:
        if str(file) == "-":
            content = sys.stdin.buffer.read(MOST_KEY_BYTES + 1)
        else:
            with file.open("rb") as stream:
                content = stream.read(MOST_KEY_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {logs.io_reason(error)}.", remedy="Check --key-file.") from error
    lines = [line for line in content.decode("utf-8-sig", "replace").splitlines() if line.strip()]
    if len(content) > MOST_KEY_BYTES or len(lines) != 1:
        raise ConfigError(f"{file} does not hold one line with an API key.", remedy="Check --key-file.")
    return lines[0]


class Terminal:
    """Questions on standard error, answers from the keyboard, in words that fit the window."""

    def tell(self, text: str) -> None:
        for line in as_typed(text).splitlines():
            wrapped = textwrap.wrap(visible(line), width(), subsequent_indent="    ") or [""]
            sys.stderr.write("\n".join(wrapped) + "\n")

    def ask(self, question: Question, about: str, default: str | None) -> str:
        if about:
            sys.stderr.write("\n")
            self.tell(about)
        prompt = f"{question.text}{f' [{default}]' if default else ''}: "
        return ask_secret(prompt) if question.secret else ask_line(prompt)

    def confirm(self, text: str, *, default: bool = False) -> bool:
        return agreed(f"{text.rstrip('?')}?", default=default)

"""The questions put to an owner, or answered by what is given already. What is asked and checked comes from outside."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from worker.errors import ConfigError, HordeUnreachable, WorkerError
from worker.setup.questions import QUESTIONS, Answers, Question, Situation

#: Answers to one question that can't be used; more come from no person.
MOST_TRIES: Final = 10

#: Holds an answer against the world: a line to show, or WorkerError. It may add to the answers.
Check = Callable[[Any, Answers], str]


class Screen(Protocol):
    """Where questions are put."""

    def ask(self, question: Question, about: str, default: str | None) -> str:
        """What is typed; empty for the default. Raises EOFError, KeyboardInterrupt."""
        ...

    def tell(self, text: str) -> None: ...

    def confirm(self, text: str) -> bool:
        """A question that stands between two others; no is the default."""
        ...


class Nobody:
    """No terminal: whatever is asked beyond what is given and the defaults fails."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell

    def ask(self, question: Question, _about: str, default: str | None) -> str:
        if default is None:
            raise ConfigError(
                f"There is no answer to: {question.text}.",
                remedy=f"Give it as {HOW.get(question.key, f'AIWORKER_{question.key.upper()}')}.",
            )
        return ""

    def confirm(self, _text: str) -> bool:
        return False


#: How scripts answer a question, where it is not by a variable of its own name alone.
HOW: Final[Mapping[str, str]] = {
    "api_key": "the variable AIWORKER_API_KEY or --key-file",
    "dreamer_name": "--name or the variable AIWORKER_DREAMER_NAME",
    "vram": "--vram",
}


def answers_to(
    situation: Situation,
    screen: Screen,
    *,
    given: Mapping[str, str],
    checks: Mapping[str, Check],
) -> Answers:
    """Every question answered: by what is given, else by the screen. Raises WorkerError, EOFError."""
    answers: Answers = {}
    for question in QUESTIONS:
        if not question.asked(situation, answers) or (question.needs and not answers.get(question.needs)):
            continue
        if question.key in given:
            answers[question.key] = _given(question, given[question.key], situation, answers, checks)
        else:
            answers[question.key] = _asked(question, situation, answers, screen, checks)
    return answers


def _given(question: Question, text: str, situation: Situation, answers: Answers, checks: Mapping[str, Check]) -> Any:
    try:
        value = question.read(text, situation, answers)
    except ValueError as error:
        raise ConfigError(
            f"{question.text}: {error}", remedy=f"Correct {HOW.get(question.key, f'what is given for {question.key}')}."
        ) from error
    if check := checks.get(question.check):
        try:
            check(value, answers)
        except HordeUnreachable as error:
            raise _unchecked(question, error) from error
    return value


def _unchecked(question: Question, error: HordeUnreachable) -> HordeUnreachable:
    return HordeUnreachable(
        f"{question.text} can't be checked, because the Horde does not answer: {error.message}",
        remedy="Check the network, the proxy and horde_url; --offline writes the settings without a check.",
    )


def _asked(
    question: Question, situation: Situation, answers: Answers, screen: Screen, checks: Mapping[str, Check]
) -> Any:
    about = question.about(situation, answers)
    for _ in range(MOST_TRIES):
        default = question.default(situation, answers)
        text = screen.ask(question, about, None if default is None else _shown(question, default))
        about = ""
        if not text.strip() and default is not None:
            value = default
        else:
            try:
                value = question.read(text, situation, answers)
            except ValueError as error:
                screen.tell(str(error))
                continue
        check = checks.get(question.check)
        if check is None:
            return value
        try:
            screen.tell(check(value, answers))
        except HordeUnreachable as error:
            screen.tell(str(error))
            if not screen.confirm("Go on without this check?"):
                if isinstance(screen, Nobody):
                    raise _unchecked(question, error) from error
                continue
        except WorkerError as error:
            if isinstance(screen, Nobody):
                raise
            screen.tell(str(error))
            continue
        return value
    raise ConfigError(f"{question.text}: {MOST_TRIES} answers could not be used.", remedy="Run it again when you like.")


def _shown(question: Question, default: Any) -> str:
    if question.secret:
        return "keep the present one"
    if isinstance(default, bool):
        return "Y/n" if default else "y/N"
    if question.key == "models":
        return str(("sd15", "sdxl", "flux", "keep").index(default) + 1)
    return str(default)

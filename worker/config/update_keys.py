"""Keys for updates of the worker itself."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator

from worker.config.key_types import Effect, KeyGroup, WebAddress, key

#: Where the project's forge gives out the list of releases.
RELEASES = "https://github.com/horde-bridge/horde-bridge/releases/latest/download/releases.json"


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


class UpdateKeys(KeyGroup):
    TITLE: ClassVar[str] = "Updates"

    auto_update: Annotated[Literal["auto", "ask", "off"], BeforeValidator(_lower)] = key(
        "ask",
        Effect.AT_ONCE,
        "What the running worker does about newer versions, once a day: auto takes them when its jobs are done and "
        "starts again, ask says that there is one, off does not look. `horde-bridge update` works with each.",
        allowed="auto, ask or off",
    )
    update_channel: Annotated[Literal["stable", "beta"], BeforeValidator(_lower)] = key(
        "stable",
        Effect.AT_ONCE,
        "Which versions: stable ones, or trial versions (beta) as well.",
        allowed="stable or beta",
    )
    update_source: WebAddress = key(
        RELEASES,
        Effect.AT_ONCE,
        "Address of the list of releases. Other than the default it is a mirror of your own. A clone asks its remote "
        "`origin` instead.",
        allowed="an https:// address",
    )

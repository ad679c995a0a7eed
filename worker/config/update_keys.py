"""Keys for updates of the worker itself."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator

from worker.config.key_types import Effect, KeyDoc, KeyGroup, WebAddress

#: Where the project's forge gives out the list of releases.
RELEASES = "https://github.com/horde-bridge/horde-bridge/releases/latest/download/releases.json"


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


class UpdateKeys(KeyGroup):
    TITLE: ClassVar[str] = "Updates"

    auto_update: Annotated[
        Literal["auto", "ask", "off"],
        BeforeValidator(_lower),
        KeyDoc(
            "What the running worker does about newer versions, once a day: auto takes them when its jobs are done and "
            "starts again, ask says that there is one, off does not look. `horde-bridge update` works with each.",
            Effect.AT_ONCE,
            allowed="auto, ask or off",
        ),
    ] = "ask"
    update_channel: Annotated[
        Literal["stable", "beta"],
        BeforeValidator(_lower),
        KeyDoc(
            "Which versions: stable ones, or trial versions (beta) as well.", Effect.AT_ONCE, allowed="stable or beta"
        ),
    ] = "stable"
    update_source: Annotated[
        WebAddress,
        KeyDoc(
            "Address of the list of releases. Other than the default it is a mirror of your own. A clone asks its "
            "remote `origin` instead.",
            Effect.AT_ONCE,
            allowed="an https:// address",
        ),
    ] = RELEASES

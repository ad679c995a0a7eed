"""The name under which this worker asks for jobs.

The server offers jobs by it: it cuts the string at the first two colons into a name, a version and the rest, and
looks name and version up in a table of features. What does not parse there is offered next to nothing.
"""

import re

from worker.errors import ConfigError
from worker.horde.feature_levels import HIGHEST_LEVEL

#: The one agent name whose table holds every feature; this worker is a drop-in for the worker of that name.
NAME = "AI Horde Worker reGen"
#: The other name that its tables have; which of its versions is the latest is not known here.
OTHER_OFFICIAL_NAME = "AI Horde Worker"
#: See `credited_share`.
LOWERED_SHARE, FOREIGN_SHARE = 0.9, 0.75
#: The server refuses longer agents.
LONGEST = 1000

_LEVEL = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){0,2}")


def bridge_agent(level: str, project_url: str) -> str:
    """`AI Horde Worker reGen:<level>:<url>` with a level of one to three numbers. Raises ConfigError."""
    if not _LEVEL.fullmatch(level):
        raise ConfigError(
            f"The feature level {level!r} is not a version.", remedy="Use one to three numbers, such as 13.0.0."
        )
    agent = f"{NAME}:{level}:{project_url}"
    if not project_url or not is_header_text(agent) or len(agent) > LONGEST:
        raise ConfigError(
            f"The project address {project_url[:80]!r} can't be part of the agent name.",
            remedy=f"Use printable ASCII without spaces, at most {LONGEST - len(NAME) - len(level) - 2} characters.",
        )
    return agent


def level_of(agent: str) -> int | None:
    """The feature level an agent claims; None for another worker's name, to which other rules apply."""
    name, _, rest = agent.partition(":")
    version = _LEVEL.fullmatch(rest.partition(":")[0])
    return int(version.group(1)) if name == NAME and version else None


def lowered(agent: str, level: int) -> str:
    """The same agent, claiming no more than this level."""
    claimed = level_of(agent)
    if claimed is None or claimed <= level:
        return agent
    return bridge_agent(f"{level}.0.0", agent.split(":", 2)[2])


def credited_share(agent: str) -> float:
    """The part of a reward that the server books to a worker of this name; its answer to a submit names the whole.

    Measured on the server: all of it at the latest level of an official name, 90 % below, 75 % for any other name.
    """
    level = level_of(agent)
    if level is not None:
        return 1.0 if level >= HIGHEST_LEVEL else LOWERED_SHARE
    return 1.0 if agent.partition(":")[0] == OTHER_OFFICIAL_NAME else FOREIGN_SHARE


def is_header_text(text: str) -> bool:
    """Whether the text may stand in an HTTP header as it is: printable ASCII, no space at either end."""
    return text.isascii() and text.isprintable() and text == text.strip()


PROJECT_URL = "https://github.com/horde-bridge/horde-bridge"
#: The highest feature level there is; each pop claims what works here, which may be less.
AGENT = bridge_agent(f"{HIGHEST_LEVEL}.0.0", PROJECT_URL)

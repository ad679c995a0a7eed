"""Which flags an engine's command line has, by its own `--help`, so that it is given no other.

Flags come and go between versions of ComfyUI, and one that it does not know ends it at once. Its help is printed before
anything heavy is imported: it takes a tenth of a second, once for each tree.
"""

import asyncio
import re
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from weakref import WeakKeyDictionary

from loguru import logger

from worker.aio import timeout
from worker.file_facts import stamp_of
from worker.process.child import end_child, start_child

#: Runs ComfyUI's main.py, for its help and in earnest.
LAUNCHER = Path(__file__).with_name("launch.py")
#: A cold start of Python from a slow disk.
HELP_TIMEOUT_S = 60.0
#: ComfyUI 0.33 prints 20 kB.
HELP_MAX_BYTES = 2**20
#: A line that defines a flag; descriptions, which may name flags of the past, are indented further.
_DEFINITION = re.compile(r"^ {1,4}(-.*)$", re.MULTILINE)
_FLAG = re.compile(r"(?<![\w-])--[A-Za-z][\w-]*")
#: Between the flags of a line and what it says of them.
_GAP = re.compile(r"\s{2,}")

#: Python, tree and what the tree's command line is made of → its flags.
_known: dict[tuple[object, ...], frozenset[str]] = {}
_asking: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def flags_of(python: Path, comfyui: Path, environment: Mapping[str, str] | None = None) -> frozenset[str] | None:
    """The flags of the ComfyUI in this folder, such as `--cache-lru`; None where it does not tell."""
    key = (python, comfyui, *(stamp_of(comfyui / name) for name in ("main.py", "comfy/cli_args.py")))
    # One at a time: many engines of one tree start at once.
    async with _asking.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        if key not in _known:
            flags = named_in(await _help(python, comfyui, environment or {}))
            if not flags:
                logger.debug("{} does not tell its flags; it is given all that newer and older ones have.", comfyui)
                return None
            _known[key] = flags
        return _known[key]


def named_in(help_text: str) -> frozenset[str]:
    """The flags that a help defines; those that are only mentioned do not count."""
    definitions = (_GAP.split(line, maxsplit=1)[0] for line in _DEFINITION.findall(help_text))
    return frozenset(flag for definition in definitions for flag in _FLAG.findall(definition))


def taken(arguments: Iterable[str], flags: Collection[str] | None) -> list[str]:
    """The arguments without flags that the engine does not have, and without their values. `flags` None: all."""
    groups = list(_groups(arguments))
    if flags is None:
        return [word for group in groups for word in group]
    absent = [group[0] for group in groups if group[0] not in flags]
    if absent:
        logger.debug("This ComfyUI has no {}; it is started without.", ", ".join(absent))
    return [word for group in groups if group[0] in flags for word in group]


def _groups(arguments: Iterable[str]) -> Iterator[list[str]]:
    """Each flag with its values."""
    group: list[str] = []
    for word in arguments:
        if word.startswith("--") and group:
            yield group
            group = []
        group.append(word)
    if group:
        yield group


async def _help(python: Path, comfyui: Path, environment: Mapping[str, str]) -> str:
    """What `main.py --help` prints; empty where it fails, hangs or prints without end."""
    try:
        child = await start_child(
            (str(python), str(LAUNCHER), str(comfyui), "--help"),
            # Wide enough for no flag to be broken off its description in a way of its own.
            {"COLUMNS": "200", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return ""
    assert child.stdout is not None
    try:
        with suppress(TimeoutError):
            async with timeout(HELP_TIMEOUT_S):
                try:
                    text = await child.stdout.readexactly(HELP_MAX_BYTES)
                except asyncio.IncompleteReadError as error:
                    text = error.partial
                    await child.wait()
                return text.decode(errors="replace")
    finally:
        if child.returncode is None:
            await end_child(child, timeout_s=0, name="engine's help")
    return ""

"""Settings written back into the owner's file: the values that change and nothing else.

A YAML library that loads and dumps would set the whole file anew: indents, quotes, line breaks, repeated keys. Here the
places of the values are looked up, and only they are exchanged; comments, order and blanks stay as the owner wrote
them. The result is read again before it takes the file's place, so a file is never made worse.
"""

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import SecretStr

from worker.config.document import read_document
from worker.config.key_types import KeyGroup
from worker.config.load import BYTE_ORDER_MARK, file_encoding, read_text
from worker.config.schema import FIELDS
from worker.config.setting import by_field
from worker.errors import ConfigError
from worker.whole_file import write_whole

#: Earlier versions of a settings file that are kept beside it; they hold the API key, so not for ever.
KEPT: Final = 10
#: Only the owner may read a file with a key in it.
PRIVATE: Final = 0o600
_ADDED = "# Added by horde-bridge"
#: A replaced file that is mounted by itself into a container can't be exchanged, only written.
_MOUNTED: Final = frozenset({errno.EBUSY, errno.EXDEV})


def change_settings(file: Path, changes: Mapping[str, Any]) -> Path | None:
    """Set keys of a settings file, comments kept. The file as it was is kept beside it; its path, if anything changed.

    `changes`: attributes of BridgeData with their new values. Raises ConfigError for a file that is no settings file,
    OSError when it can't be written.
    """
    text = read_text(file)
    changed = with_changes(text, changes, str(file))
    if changed == text:
        return None
    data = file.read_bytes()
    encoding = file_encoding(data)
    mark = BYTE_ORDER_MARK if data.startswith(BYTE_ORDER_MARK.encode(encoding)) else ""
    return write_settings(file, mark + changed, encoding=encoding)


def with_changes(text: str, changes: Mapping[str, Any], file: str = "bridgeData.yaml") -> str:
    """`text` of a settings file with these keys set. Pure. Raises ConfigError where `text` is no settings file.

    A key that is written, under whichever of its names, gets its value where it is; one that waits as a comment
    (`#key: value`, as in the template) is taken into use there; any other comes at the end.
    """
    text = text.removeprefix("\ufeff")
    newline = "\r\n" if "\r\n" in text else "\n"
    result = text
    for key, value in changes.items():
        texts = (_with_one(result, key, value, newline), _appended(result, key, value, newline))
        found = next((each for each in texts if _differs_in_one(result, each, key, value, file)), None)
        if found is None:
            raise ConfigError(
                f"{file}: the key {key} can't be set without a change to others.",
                remedy="Write it by hand; an anchor (&, *) or an odd indent is in the way.",
            )
        result = found
    return result


def _differs_in_one(before: str, after: str, key: str, value: Any, file: str) -> bool:
    """Whether a text says the same as another but for this key, and of this key what is meant."""
    old, _ = by_field(read_document(before, file))
    try:
        new, _ = by_field(read_document(after, file))
        meant, _ = by_field(read_document(f"{key}:{as_yaml(value)}\n", file))
    except ConfigError:  # such as an alias whose anchor was in a value that is replaced
        return False
    return all(_value(new, name) == _value(meant if name == key else old, name) for name in {*old, *new, key})


def as_yaml(value: Any, newline: str = "\n") -> str:
    """A value as it stands behind `key:`, with the blank or line break before it."""
    match value:
        case SecretStr():
            return as_yaml(value.get_secret_value())
        case str() | Path():
            return f" {_quoted(str(value))}"
        case None:
            return ""
        case bool() | int() | float():
            return f" {json.dumps(value)}"
        case KeyGroup():
            return f" {json.dumps(value.model_dump(mode='json', exclude_defaults=True), ensure_ascii=False)}"
        case Mapping():
            return f" {json.dumps(dict(value), ensure_ascii=False)}"
        case _:
            elements = list(value)
            return "".join(f"{newline}  -{as_yaml(each)}" for each in elements) if elements else " []"


def write_settings(file: Path, text: str, *, mode: int | None = None, encoding: str = "utf-8") -> Path | None:
    """Write a settings file whole or not at all; where the file as it was is kept, if there was one.

    `mode`: the rights of the file; without it those it has, or its owner's alone. `encoding` as Python names it. Raises
    OSError.
    """
    file = file.resolve() if file.is_symlink() else file
    kept = _keep(file) if file.exists() else None
    if mode is None:
        mode = file.stat().st_mode & 0o777 if kept else PRIVATE
    write_whole(file.absolute(), text.encode(encoding), mode=mode, exchange=_exchange)
    return kept


def earlier_versions(file: Path) -> list[Path]:
    """The kept versions of a settings file, the oldest first."""
    return sorted(file.absolute().parent.glob(f"{file.name}.before-*"))


def _exchange(new: Path, file: Path) -> None:
    try:
        new.replace(file)
    except OSError as error:
        if error.errno not in _MOUNTED:
            raise
        with new.open("rb") as source, file.open("r+b") as target:
            target.write(source.read())
            target.truncate()
        new.unlink()


def _keep(file: Path) -> Path:
    content = file.read_bytes()
    versions = earlier_versions(file)
    if versions and versions[-1].read_bytes() == content:
        return versions[-1]
    # To the microsecond, so that the names are in the order of the versions.
    kept = file.with_name(f"{file.name}.before-{datetime.now():%Y%m%d-%H%M%S-%f}")  # noqa: DTZ005 - the owner's clock
    try:
        with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:  # such as a full disk: half a version is none
        kept.unlink(missing_ok=True)
        raise
    for old in versions[: max(0, len(versions) + 1 - KEPT)]:
        with contextlib.suppress(OSError):
            old.unlink()
    return kept


def _value(settings: Mapping[str, Any], name: str) -> Any:
    return settings[name].value if name in settings else None


def _quoted(text: str) -> str:
    """Double quotes as in JSON; single ones around backslashes, which people know from Windows."""
    if not text.isprintable():
        # Line breaks of other kinds than JSON's are among them; only YAML's own escapes keep them.
        return str(yaml.safe_dump(text, default_style='"', width=float("inf"))).strip()
    if "\\" in text:
        return "'" + text.replace("'", "''") + "'"
    return json.dumps(text, ensure_ascii=False)


def _with_one(text: str, key: str, value: Any, newline: str) -> str:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    # The last of several counts, as when the file is read.
    for name, node in reversed(pairs):
        if FIELDS.get(name.value) == key:
            start = text.index(":", name.end_mark.index) + 1
            if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.start_mark.index >= start:
                return _with_block(text, start, node, value, newline)
            start, end = _span(text, start, node)
            remarks = "".join(f"{each}{newline}" for each in _remarks(text, node))
            line = max(text.rfind("\n", 0, name.start_mark.index), text.rfind("\r", 0, name.start_mark.index)) + 1
            return text[:line] + remarks + text[line:start] + as_yaml(value, newline) + text[end:]
    new = as_yaml(value, newline)
    if found := re.search(rf"^#{re.escape(key)}:[^\r\n]*", text, re.MULTILINE):
        return text[: found.start()] + f"{key}:{new}" + text[found.end() :]
    return _appended(text, key, value, newline)


def _appended(text: str, key: str, value: Any, newline: str) -> str:
    new = as_yaml(value, newline)
    gap = "" if not text or text.endswith(("\n", "\r")) else newline
    heading = "" if _ADDED in text else f"{newline}{_ADDED}{newline}"
    return f"{text}{gap}{heading}{key}:{new}{newline}"


def _span(text: str, start: int, node: yaml.Node) -> tuple[int, int]:
    """From behind the colon to the end of the value, without the comments behind it."""
    if node.start_mark.index < start:  # an alias: its node stands where the anchor is
        line_end = re.compile(r"[ \t]+#|[\r\n]|$").search(text, start + 1)
        return start, line_end.start() if line_end else len(text)
    end = max(start, *_ends(node))
    return start, start + len(text[start:end].rstrip())


def _remarks(text: str, node: yaml.Node) -> list[str]:
    """Comments between the elements of a list in brackets, which goes as a whole."""
    if not isinstance(node, yaml.SequenceNode) or not node.flow_style:
        return []
    ends = [node.start_mark.index, *(each.end_mark.index for each in node.value)]
    starts = [*(each.start_mark.index for each in node.value), node.end_mark.index]
    gaps = (text[end:start] for end, start in zip(ends, starts, strict=True))
    return [found[0] for gap in gaps for found in re.finditer(r"(?<![^\s,\[])#[^\r\n]*", gap)]


def _with_block(text: str, start: int, node: yaml.CollectionNode, value: Any, newline: str) -> str:
    """`text` with another value for a list or mapping over several lines; the comments inside stay."""
    if isinstance(node, yaml.SequenceNode) and isinstance(value, (list, tuple)):
        by_element = _with_elements(text, node, list(value), newline)
        if by_element is not None:
            return by_element
    _, end = _span(text, start, node)
    head, *inner = text[start:end].splitlines()
    comments = [line.rstrip() for line in inner if line.lstrip().startswith("#")]
    first, *rest = as_yaml(value, newline).split(newline)
    remark = f"  {head.strip()}" if head.strip().startswith("#") else ""
    return text[:start] + newline.join([first + remark, *comments, *rest]) + text[end:]


def _with_elements(text: str, node: yaml.SequenceNode, wanted: list[Any], newline: str) -> str | None:
    """The list with elements taken out and others appended, line by line; None where that is not all."""
    items = [item for item in node.value if isinstance(item, yaml.ScalarNode)]
    written = [str(item.value) for item in items]
    kept = [each for each in written if each in wanted]
    plain = len(items) == len(node.value) and all(isinstance(each, str) for each in wanted)
    if not kept or not plain or len(set(written)) < len(written) or wanted[: len(kept)] != kept:
        return None
    first = text.rfind("\n", 0, items[0].start_mark.index) + 1
    indent = text[first : items[0].start_mark.index].split("-", maxsplit=1)[0]
    if indent.strip() or any("\n" in text[item.start_mark.index : _span(text, 0, item)[1]] for item in items):
        return None
    last = next(item for item in reversed(items) if item.value in wanted)
    end = re.compile(r"\r?\n|$").search(text, last.end_mark.index)
    assert end is not None
    added = "".join(f"{newline}{indent}-{as_yaml(each)}" for each in wanted[len(kept) :])
    edits = [(end.start(), end.start(), added)]
    for item in items:
        if item.value not in wanted:
            line = text.rfind("\n", 0, item.start_mark.index) + 1
            after = re.compile(r"\n|$").search(text, item.end_mark.index)
            assert after is not None
            edits.append((line, after.end(), ""))
    for begin, stop, new in sorted(edits, reverse=True):
        text = text[:begin] + new + text[stop:]
    return text


def _ends(node: yaml.Node) -> Iterable[int]:
    """Where the node's parts end. A block's own end mark stands behind the comments that follow it."""
    block = isinstance(node, yaml.CollectionNode) and not node.flow_style
    yield node.start_mark.index if block else node.end_mark.index
    if block:
        for child in node.value:
            for part in child if isinstance(child, tuple) else (child,):
                yield from _ends(part)

"""Draw the rooms of worker/ and who uses whom as SVG: `python -m tools.draw_rooms > rooms.svg`.

The rows are the layers that pyproject.toml sets for import-linter, the arrows are the imports grimp finds in the code,
the descriptions are the first sentences of the packages' docstrings. The site is built with it, so that the picture
is never older than the code.
"""

import ast
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
#: Pixels.
WIDTH, MARGIN, GAP, ROW_GAP = 1180, 20, 14, 46
TITLE_HEIGHT, LINE_HEIGHT, PADDING = 20, 14, 8
#: Average width of a character of the descriptions, in pixels: 11 px sans-serif.
CHARACTER = 6.0
DESCRIPTION_LINES = 3
BLUE, GREY = "#3f5f95", "#8a8a8a"


@dataclass(frozen=True)
class Room:
    """One package or module of a layer. `floor`: a module that many use; arrows to it would hide the others."""

    name: str
    description: str
    floor: bool


@dataclass(frozen=True)
class Box:
    """Where a room is drawn, in pixels."""

    x: float
    y: float
    width: float
    height: float


def layers(pyproject: str) -> list[list[str]]:
    """The layers contract's rows, from the top: full module names."""
    contract = re.search(r'type = "layers"\nlayers = \[\n(.*?)\n\]', pyproject, re.DOTALL)
    if contract is None:
        raise ValueError("pyproject.toml has no import contract of type layers.")
    return [re.split(r" [|:] ", line) for line in re.findall(r'"([^"]+)"', contract[1])]


def description(module: str, root: Path = ROOT) -> str:
    """The first sentence of a module's or package's docstring, without a final full stop; empty without a docstring."""
    path = root.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return re.split(r"\.(?:\s|$)", " ".join(text.split()), maxsplit=1)[0].replace("`", "")


def uses(rooms: Iterable[str]) -> dict[str, set[str]]:
    """For each room the others whose modules its own modules import directly."""
    graph = grimp.build_graph("worker", cache_dir=None)
    owner = {module: room for room in rooms for module in {room, *graph.find_descendants(room)}}
    found: dict[str, set[str]] = {room: set() for room in rooms}
    for module, room in owner.items():
        imported = graph.find_modules_directly_imported_by(module)
        found[room] |= {owner[other] for other in imported if other in owner} - {room}
    return found


def reduced(edges: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The edges that no longer path replaces, so that only what carries meaning is drawn."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(edges[start])
        while waiting:
            if (room := waiting.pop()) not in seen:
                seen.add(room)
                waiting.extend(edges[room])
        return seen

    below = {room: reachable(room) for room in edges}
    return {
        room: {target for target in targets if not any(target in below[other] for other in targets - {target})}
        for room, targets in edges.items()
    }


def place(rows: list[list[Room]]) -> tuple[dict[str, Box], float]:
    """Where each room is drawn, and the picture's height."""
    boxes: dict[str, Box] = {}
    y = float(MARGIN)
    for row in rows:
        width = min((WIDTH - 2 * MARGIN - GAP * (len(row) - 1)) / len(row), 520)
        lines = max(len(_lines(room, width)) for room in row)
        height = TITLE_HEIGHT + lines * LINE_HEIGHT + PADDING
        x = (WIDTH - width * len(row) - GAP * (len(row) - 1)) / 2
        for room in row:
            boxes[room.name] = Box(x, y, width, height)
            x += width + GAP
        y += height + ROW_GAP
    return boxes, y - ROW_GAP + MARGIN


def _lines(room: Room, width: float) -> list[str]:
    columns = int((width - 2 * PADDING) / CHARACTER)
    return textwrap.wrap(room.description, columns, max_lines=DESCRIPTION_LINES, placeholder=" …")


def svg(rows: list[list[Room]], edges: Mapping[str, set[str]]) -> str:
    """The picture. The same code gives the same bytes."""
    boxes, height = place(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">',
        "<title>The rooms of worker/ and who uses whom</title>",
        (
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0 8 4 0 8z" fill="#3f5f95"/></marker></defs>'
        ),
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="#fff"/>',
    ]
    hidden = {room.name for row in rows for room in row if room.floor}
    for source in boxes:
        targets = sorted(edges[source] - hidden, key=lambda name: (boxes[name].y, boxes[name].x))
        for number, target in enumerate(targets, 1):
            parts.append(_arrow(boxes[source], boxes[target], number / (len(targets) + 1)))
    for row in rows:
        for room in row:
            parts += _drawn(room, boxes[room.name])
    return "\n".join((*parts, "</svg>", ""))


def _arrow(source: Box, target: Box, share: float) -> str:
    x1, y1 = source.x + source.width * share, source.y + source.height
    x2, y2 = target.x + target.width / 2, target.y
    bend = max((y2 - y1) / 2, ROW_GAP / 2)
    points = f"M{x1:.0f} {y1:.0f}C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}"
    return f'<path d="{points}" fill="none" stroke="{BLUE}" stroke-width="1.2" opacity=".65" marker-end="url(#tip)"/>'


def _drawn(room: Room, box: Box) -> list[str]:
    fill, stroke = ("#f3f3f3", GREY) if room.floor else ("#eef3fb", BLUE)
    parts = [
        (
            f'<rect fill="{fill}" stroke="{stroke}" x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" '
            f'height="{box.height:.0f}" rx="5"/>'
        ),
        (
            '<text font-family="sans-serif" font-size="13" font-weight="bold" fill="#10203c" '
            f'x="{box.x + PADDING:.0f}" y="{box.y + 16:.0f}">{escape(room.name)}</text>'
        ),
    ]
    for number, line in enumerate(_lines(room, box.width), 1):
        y = box.y + 16 + number * LINE_HEIGHT
        parts.append(
            f'<text font-family="sans-serif" font-size="11" fill="#333" x="{box.x + PADDING:.0f}" y="{y:.0f}">'
            f"{escape(line)}</text>"
        )
    return parts


def rooms_svg(root: Path = ROOT) -> str:
    """The picture of this repository's code."""
    names = layers((root / "pyproject.toml").read_text(encoding="utf-8"))
    flat = [name for row in names for name in row]
    edges = uses(flat)
    used = {target for targets in edges.values() for target in targets}
    rows = [[_room(name, root, used=name in used) for name in row] for row in names]
    short = {
        room.removeprefix("worker."): {target.removeprefix("worker.") for target in targets}
        for room, targets in reduced(edges).items()
    }
    return svg(rows, short)


def _room(name: str, root: Path, *, used: bool) -> Room:
    short = name.removeprefix("worker.")
    is_package = root.joinpath(*name.split(".")).is_dir()
    return Room(short, description(name, root), floor=used and not is_package and "." not in short)


if __name__ == "__main__":
    sys.stdout.write(rooms_svg())

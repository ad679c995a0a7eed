"""What each module is for, by room, from the first sentences of the docstrings: `python -m tools.module_index`.

The site puts the tables into docs/modules.md when it is built.
"""

import sys
from pathlib import Path

from tools.draw_rooms import ROOT, description


def module_tables(root: Path = ROOT) -> str:
    """Markdown: a section for each package of worker/, a row for each of its modules."""
    lines: list[str] = []
    for package in sorted({path.parent for path in root.glob("worker/**/*.py")}):
        modules = sorted(path for path in package.glob("*.py") if path.stem != "__init__")
        if not modules:
            continue
        name = package.relative_to(root).as_posix()
        lines += [f"## {name}", "", f"{_escaped(description(name.replace('/', '.'), root))}.", ""]
        lines += ["| module | purpose |", "|---|---|"]
        for module in modules:
            purpose = description(f"{name.replace('/', '.')}.{module.stem}", root)
            lines.append(f"| `{module.name}` | {_escaped(purpose)} |")
        lines.append("")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    for character in "\\*_<>|[]":
        text = text.replace(character, f"\\{character}")
    return text


if __name__ == "__main__":
    sys.stdout.write(module_tables())

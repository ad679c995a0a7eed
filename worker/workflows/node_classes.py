"""What node classes take and give, by an engine's /object_info or our snapshot of it, and values against that."""

import json
import math
import re
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

#: Node class → what it declares; None for a class of an owner's own ComfyUI, which is known only once that runs.
ObjectInfo = Mapping[str, Mapping[str, Any] | None]

SNAPSHOT_FILE = Path(__file__).with_name("object_info.json")
#: The ComfyUI that it is of.
PINNED_VERSION = "0.3.75"
#: The last answer of the engine of an owner's ComfyUI, in the folder of the worker's engines.
KEPT_FILE = "object_info.json"
#: In the snapshot, instead of the choices of an input that are files.
ANY_FILE = "ANY_FILE"
ANY_TYPE = "*"


class InputSpec(NamedTuple):
    """One input as a node class declares it. `choices`: the allowed values; None for any."""

    kind: str
    required: bool
    options: Mapping[str, Any]
    choices: Collection[Any] | None
    #: the choices are files
    is_file: bool = False


@cache
def snapshot() -> Mapping[str, Mapping[str, Any]]:
    """The node classes of the pinned ComfyUI and of our pack; tests/contract/refresh_object_info.py writes it."""
    info: Mapping[str, Mapping[str, Any]] = json.loads(SNAPSHOT_FILE.read_text("utf-8"))
    return info


def keep_answer(folder: Path, comfyui: Path, object_info: Mapping[str, Mapping[str, Any]], version: str) -> None:
    """Write down what the engine of an owner's ComfyUI answered, for checks while none runs. Raises OSError."""
    new = folder / f"{KEPT_FILE}.new"
    new.write_text(json.dumps({"comfyui": str(comfyui), "version": version, "node_classes": object_info}), "utf-8")
    new.replace(folder / KEPT_FILE)


def kept_answer(folder: Path, comfyui: Path) -> tuple[str, Mapping[str, Mapping[str, Any]]] | None:
    """Version and node classes of this ComfyUI, as its engine last answered; None where there is none."""
    try:
        kept = json.loads((folder / KEPT_FILE).read_text("utf-8"))
        return (str(kept.get("version") or ""), kept["node_classes"]) if kept["comfyui"] == str(comfyui) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def with_any_file(object_info: Mapping[str, Mapping[str, Any]]) -> ObjectInfo:
    """An engine's answer with any file allowed: files come and go while it runs."""
    known = snapshot()
    return {name: _any_file(info, known[name]) if name in known else info for name, info in object_info.items()}


def _any_file(class_info: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    declared = {
        group: {
            name: [ANY_FILE] if known["input"].get(group, {}).get(name) == [ANY_FILE] else spec
            for name, spec in inputs.items()
        }
        if isinstance(inputs, Mapping)
        else inputs
        for group, inputs in class_info.get("input", {}).items()
    }
    return {**class_info, "input": declared}


def declared_inputs(class_info: Mapping[str, Any]) -> dict[str, InputSpec]:
    declared = class_info.get("input", {})
    return {
        name: _parse(spec, required=group == "required")
        for group in ("required", "optional")
        for name, spec in declared.get(group, {}).items()
    }


def input_of(object_info: ObjectInfo, node_class: str, name: str) -> InputSpec | None:
    """An input of a node class; None where either is not known."""
    info = object_info.get(node_class)
    return declared_inputs(info).get(name) if info else None


def choices_of(object_info: ObjectInfo, node_class: str, name: str) -> frozenset[str]:
    """The choices of an input; none where it has none, or is not known."""
    spec = input_of(object_info, node_class, name)
    return frozenset(map(str, spec.choices or ())) if spec else frozenset()


def _parse(spec: Any, *, required: bool) -> InputSpec:
    """Both of ComfyUI's notations: choices in the place of the type, or type COMBO with the choices as options."""
    kind, *rest = spec
    options = rest[0] if rest and isinstance(rest[0], Mapping) else {}
    match kind:
        case list():
            return InputSpec("COMBO", required, options, kind)
        case "COMBO":
            return InputSpec("COMBO", required, options, options.get("options"))
        case _ if kind == ANY_FILE:
            return InputSpec("COMBO", required, options, None, is_file=True)
        case _:
            return InputSpec(str(kind), required, options, None)


def fits(given: str, taken: str) -> bool:
    """Types may be unions, as in "IMAGE,MASK"."""
    return ANY_TYPE in {given, taken} or not set(given.split(",")).isdisjoint(taken.split(","))


def value_problem(value: Any, spec: InputSpec) -> str | None:
    match spec.kind:
        case "COMBO":
            if spec.choices is not None and value not in spec.choices:
                return f"{value!r} is none of {', '.join(map(str, spec.choices)) or 'the choices (there are none)'}"
            return None
        case "INT" | "FLOAT":
            number = _converted(value, spec)
            if number is None:
                return f"{value!r} is no {spec.kind}"
            low, high = spec.options.get("min", -math.inf), spec.options.get("max", math.inf)
            return None if low <= number <= high else f"{value} is not within {low} to {high}"
        case "STRING" | "BOOLEAN":
            return None
        case kind:
            return f"takes {kind} from another node, not the value {value!r}"


#: Widget → the type that ComfyUI converts its values to.
CONVERTED = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


def _converted(value: Any, spec: InputSpec) -> Any:
    """What ComfyUI makes of a widget's value; None for what it refuses."""
    try:
        return CONVERTED[spec.kind](value)
    except (TypeError, ValueError, OverflowError):
        return None


def conversion(value: Any, spec: InputSpec) -> str | None:
    """A remark on a value that ComfyUI converts; None for one that it takes as it is."""
    if spec.kind not in CONVERTED:
        return None
    converted = _converted(value, spec)
    takes_whole_numbers = spec.kind == "FLOAT" and type(value) is int
    if type(value) is CONVERTED[spec.kind] or takes_whole_numbers:
        return None
    return f"ComfyUI takes {value!r} as {converted!r}"


def version_numbers(version: str) -> tuple[int, ...]:
    """A version for comparison; what follows the numbers, as in 0.34.0rc1, does not count."""
    found = re.match(r"v?(\d{1,9}(?:\.\d{1,9}){0,3})", version.strip())
    return tuple(map(int, found[1].split("."))) if found else ()

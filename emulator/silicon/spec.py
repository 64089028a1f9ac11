"""The chip description: named constants with unit, range, grade and source, read from TOML."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

from emulator.errors import ChipError
from emulator.fields import is_real
from emulator.silicon import sections
from emulator.silicon.sections import GRADES, Constant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_CHIP = Path(__file__).with_name("hc1.toml")
CONSTANT_KEYS = {"value", "unit", "range", "grade", "source"}
WHOLE = ("cycles", "bits", "positions", "entries")  # units that count, beside everything "/cycle"


@dataclass(frozen=True, slots=True)
class ChipSpec:
    """A whole chip description; one field a section of the TOML file."""

    name: str
    title: str
    clock: sections.Clock
    fabric: sections.Fabric
    vector: sections.Vector
    embedding: sections.Embedding
    kv_sram: sections.KvSram
    attention: sections.Attention
    top_k: sections.TopK
    energy: sections.Energy
    area: sections.Area
    transistors: sections.Transistors
    published: sections.Published
    deployment: dict[str, sections.Deployment]  # by name, oldest first

    @property
    def clock_hz(self) -> float:
        return self.clock.frequency.value

    def constants(self) -> Iterator[tuple[str, Constant]]:
        """Every constant as ("section.key", Constant)."""
        for section in fields(self):
            value = getattr(self, section.name)
            if isinstance(value, dict):
                for name, table in value.items():
                    yield from _constants_of(f"{section.name}.{name}", table)
            elif not isinstance(value, str):
                yield from _constants_of(section.name, value)

    def constant(self, key: str) -> Constant:
        """The constant "section.key". Raises ChipError, with near keys, if there is none."""
        names = dict(self.constants())
        if key not in names:
            near = ", ".join(get_close_matches(key, names)) or ", ".join(names)
            raise ChipError(f"{key} is an unknown key; try {near}")
        return names[key]

    def with_value(self, key: str, value: float) -> ChipSpec:
        """A variant of the chip with one constant changed; `key` is "section.key".

        Raises ChipError, naming key and range, for an unknown key or a value outside its range.
        """
        constant = self.constant(key)
        _check_value(key, value, constant.unit, constant.range)
        section, name = key.rsplit(".", 1)
        changed = {name: replace(constant, value=value)}
        if section.startswith("deployment."):
            place = section.removeprefix("deployment.")
            one = replace(self.deployment[place], **changed)
            return replace(self, deployment={**self.deployment, place: one})
        part: Any = replace(getattr(self, section), **changed)
        return replace(self, **{section: part})


def _constants_of(name: str, section: Any) -> Iterator[tuple[str, Constant]]:
    for key in fields(section):
        yield f"{name}.{key.name}", getattr(section, key.name)


def load_chip(path: Path = DEFAULT_CHIP) -> ChipSpec:
    """Read and check a chip description.

    Raises ChipError, naming file, line and key, for a file that is not TOML, an unknown or missing
    key, a constant without grade or source, another unit, or a value outside its range.
    """
    try:
        text = path.read_text("utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise ChipError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, too long a number, too deep
        raise ChipError(f"{path}: not TOML: {error}") from None
    try:
        return _chip(data)
    except ChipError as error:
        message = " ".join(str(error).splitlines())  # a quoted key may hold a line break
        key = message.split(" ", 1)[0].rstrip(":")
        raise ChipError(f"{path}, line {_line(text, key)}: {message}") from None


def _chip(data: dict[str, Any]) -> ChipSpec:
    """Every message begins with the key or section that it is about."""
    head = data.pop("chip", None)
    if not isinstance(head, dict) or set(head) != {"name", "title"}:
        raise ChipError("[chip] must hold name and title")
    parts: dict[str, Any] = {}
    for name, kind in get_type_hints(ChipSpec).items():
        if name == "deployment":
            parts[name] = _deployments(data.pop(name, None))
        elif name not in head:
            parts[name] = _section(name, kind, data.pop(name, None))
    if data:
        raise ChipError(f"[{next(iter(data))}] is an unknown section")
    return ChipSpec(name=str(head["name"]), title=str(head["title"]), **parts)


def _deployments(tables: Any) -> dict[str, sections.Deployment]:
    if not isinstance(tables, dict) or not tables:
        raise ChipError("[deployment] must hold at least one named deployment")
    return {
        name: _section(f"deployment.{name}", sections.Deployment, table)
        for name, table in tables.items()
    }


def _section(name: str, kind: Any, table: Any) -> Any:
    if not isinstance(table, dict):
        raise ChipError(f"[{name}] is missing")
    units = sections.units(kind)
    for key in table:
        if key not in units:
            raise ChipError(f"{name}.{key} is an unknown key; [{name}] has {', '.join(units)}")
    for key in units:
        if key not in table:
            raise ChipError(f"{name}.{key} is missing")
    return kind(
        **{key: _constant(f"{name}.{key}", table[key], unit) for key, unit in units.items()}
    )


def _constant(key: str, entry: Any, unit: str) -> Constant:
    if not isinstance(entry, dict) or set(entry) != CONSTANT_KEYS:
        raise ChipError(f"{key} must hold exactly {', '.join(sorted(CONSTANT_KEYS))}")
    value, bounds = entry["value"], entry["range"]
    numbers = [value, *bounds] if isinstance(bounds, list) else []
    if len(numbers) != 3 or not all(is_real(n) for n in numbers):
        raise ChipError(f"{key}: value and range [low, high] must be finite numbers")
    low, high = bounds
    if not (0 <= low <= high and high > 0) or low < _least(unit):
        raise ChipError(f"{key}: a range of {low} to {high} makes no sense for {unit}")
    if entry["unit"] != unit:
        raise ChipError(
            f"{key} = {value} has unit {entry['unit']!r}, not {unit!r} (range {low} to {high})"
        )
    _check_value(key, value, unit, (low, high))
    if entry["grade"] not in GRADES:
        raise ChipError(f"{key}: grade {entry['grade']!r} is none of {', '.join(GRADES)}")
    if not isinstance(entry["source"], str) or not entry["source"]:
        raise ChipError(f"{key}: a source must be given")
    return Constant(value, unit, (low, high), entry["grade"], entry["source"])


def whole(unit: str) -> bool:
    """Whether a constant of this unit counts things."""
    return unit.endswith("/cycle") or unit in WHOLE


def _least(unit: str) -> int:
    """A latency may be nothing, and so may a cost; what is divided by may not."""
    return 1 if unit == "Hz" or (whole(unit) and unit != "cycles") else 0


def _check_value(key: str, value: float, unit: str, bounds: tuple[float, float]) -> None:
    low, high = bounds
    if not low <= value <= high:
        raise ChipError(f"{key} = {value} is outside its range {low} to {high} {unit}")
    if whole(unit) and value != int(value):
        raise ChipError(f"{key} = {value} must be a whole number from {low} to {high} {unit}")


def _line(text: str, key: str) -> int:
    """Line of "section.key" or "[section]" in the file; of the last part of it that is there."""
    section, found = "", 1
    wanted = key.strip("[]")
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\s*([^\]]+?)\s*\]", line)
        if header:
            section = header[1].replace('"', "").replace("'", "")
            if section in (wanted, wanted.rpartition(".")[0]):
                found = number
        name = re.match(r"""\s*["']?([\w-]+)["']?\s*=""", line)
        if name and f"{section}.{name[1]}" == wanted:
            return number
    return found

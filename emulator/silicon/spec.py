"""The chip description: named constants with unit, range, grade and source, read from TOML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

from emulator.errors import ChipError
from emulator.fields import is_real
from emulator.silicon import sections
from emulator.silicon.sections import GRADES, Constant
from emulator.toml_file import read_toml

DEFAULT_SPEC = Path(__file__).with_name("hc1.toml")
CONSTANT_KEYS = {"value", "unit", "range", "grade", "source"}
# Units that count, beside everything "/cycle"; of the second tuple there may be none.
WHOLE = ("cycles", "bits", "positions", "entries", "rows", "0 or 1")
MAY_BE_NONE = ("cycles", "0 or 1")


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
    lora: sections.Lora
    top_k: sections.TopK
    sequencer: sections.Sequencer
    link: sections.Link
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
            raise ChipError(f"unknown key {key}; try {near}")
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


def preset(name: str) -> Path:
    """The file of a chip that the package describes. Raises ChipError with the known names."""
    path = DEFAULT_SPEC.with_name(f"{name}.toml")
    if not name.isidentifier() or not path.is_file():
        known = ", ".join(sorted(p.stem for p in DEFAULT_SPEC.parent.glob("*.toml")))
        raise ChipError(f"{name}: no such file, and the described chips are {known}")
    return path


def load_spec(path: Path | str = DEFAULT_SPEC) -> ChipSpec:
    """Read and check a chip description.

    Raises ChipError, naming file, line and key, for a file that is not TOML, an unknown or missing
    key, a constant without grade or source, another unit, or a value outside its range.
    """
    path = Path(path)
    data, text = read_toml(path, ChipError)
    try:
        return _spec(data)
    except ChipError as error:
        message = " ".join(str(error).splitlines())  # a quoted key may hold a line break
        raise ChipError(f"{path}, line {_line(text, message)}: {message}") from None


def _spec(data: dict[str, Any]) -> ChipSpec:
    """What is there is checked first, so that a wrong value is not hidden by a missing one."""
    head = data.pop("chip", None)
    kinds = {name: kind for name, kind in get_type_hints(ChipSpec).items() if kind is not str}
    parts: dict[str, Any] = {}
    for name, table in data.items():
        if name == "deployment":
            parts[name] = _deployments(table)
        elif name in kinds:
            parts[name] = _section(name, kinds[name], table)
    for name in kinds:
        if name not in parts:
            raise ChipError(f"section [{name}] is missing")
    for name in data:
        if name not in kinds:
            raise ChipError(f"unknown section [{name}]")
    if not isinstance(head, dict) or set(head) != {"name", "title"}:
        raise ChipError("[chip] must hold name and title")
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
        raise ChipError(f"[{name}] must be a section of constants")
    units, constants = sections.units(kind), {}
    for key, entry in table.items():
        if key not in units:
            raise ChipError(f"unknown key {name}.{key}; [{name}] has {', '.join(units)}")
        constants[key] = _constant(f"{name}.{key}", entry, units[key])
    for key in units:
        if key not in constants:
            raise ChipError(f"key {name}.{key} is missing")
    return kind(**constants)


def _constant(key: str, entry: Any, unit: str) -> Constant:
    if not isinstance(entry, dict) or set(entry) != CONSTANT_KEYS:
        raise ChipError(f"{key} must hold exactly {', '.join(sorted(CONSTANT_KEYS))}")
    value, bounds = entry["value"], entry["range"]
    numbers = [value, *bounds] if isinstance(bounds, list) else []
    if len(numbers) != 3 or not all(is_real(n) for n in numbers):
        raise ChipError(f"{key}: value and range [low, high] must be finite numbers")
    low, high = bounds
    if not (0 <= low <= high and high > 0):
        raise ChipError(f"{key}: a range of {low} to {high} makes no sense")
    if low < _least(unit):
        raise ChipError(f"{key} divides work into cycles: its range must begin at 1 or above")
    if not all(isinstance(entry[k], str) and entry[k] for k in ("unit", "source")):
        raise ChipError(f"{key}: unit and source must be given")
    if entry["unit"] != unit:
        raise ChipError(
            f"{key} = {value} has unit {entry['unit']!r}, not {unit!r} (range {low} to {high})"
        )
    _check_value(key, value, unit, (low, high))
    if entry["grade"] not in GRADES:
        raise ChipError(f"{key}: grade {entry['grade']!r} is none of {', '.join(GRADES)}")
    return Constant(value, unit, (low, high), entry["grade"], entry["source"])


def whole(unit: str) -> bool:
    """Whether a constant of this unit counts things."""
    return (unit.endswith("/cycle") and not unit.startswith("pJ")) or unit in WHOLE


def _least(unit: str) -> int:
    """A latency may be nothing, and so may a cost; what is divided by may not."""
    return 1 if unit in ("Hz", "GB/s") or (whole(unit) and unit not in MAY_BE_NONE) else 0


def _check_value(key: str, value: float, unit: str, bounds: tuple[float, float]) -> None:
    low, high = bounds
    if not low <= value <= high:
        raise ChipError(f"{key} = {value} is outside its range {low} to {high} {unit}")
    if whole(unit) and value != int(value):
        raise ChipError(f"{key} = {value} must be a whole number from {low} to {high} {unit}")


def _line(text: str, message: str) -> int:
    """Line of the "section.key" or "[section]" that a message names first; 1 if it is not there."""
    named = re.search(r"\[([\w.-]+)\]|[\w-]+(?:\.[\w-]+)+", message)
    wanted = (named[1] or named[0]) if named else ""
    section, found = "", 1
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

"""The chip description: named constants with unit, range, grade and source, read from TOML."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from emulator.errors import ChipError
from emulator.fields import is_real

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_CHIP = Path(__file__).with_name("hc1.toml")
GRADES = ("official", "observed", "estimate", "assumed")
CONSTANT_KEYS = {"value", "unit", "range", "grade", "source"}
DIVISORS = (".frequency", ".lanes", ".positions")  # values a cycle, or a second


@dataclass(frozen=True, slots=True)
class Constant:
    """One constant of the silicon and how well it is known."""

    value: float
    unit: str
    range: tuple[float, float]
    grade: str
    source: str


@dataclass(frozen=True, slots=True)
class Clock:
    frequency: Constant


@dataclass(frozen=True, slots=True)
class Fabric:
    lanes: Constant
    alphabet_setup: Constant
    scale_drain: Constant
    split_code: Constant


@dataclass(frozen=True, slots=True)
class Vector:
    lanes: Constant
    pipeline: Constant
    divide: Constant


@dataclass(frozen=True, slots=True)
class Embedding:
    read: Constant


@dataclass(frozen=True, slots=True)
class Attention:
    positions: Constant
    softmax_table: Constant


@dataclass(frozen=True, slots=True)
class KvSram:
    write: Constant
    positions: Constant


@dataclass(frozen=True, slots=True)
class TopK:
    width: Constant
    sort: Constant


@dataclass(frozen=True, slots=True)
class ChipSpec:
    """A whole chip description; one field a section of the TOML file."""

    name: str
    title: str
    clock: Clock
    fabric: Fabric
    vector: Vector
    embedding: Embedding
    attention: Attention
    kv_sram: KvSram
    top_k: TopK

    @property
    def clock_hz(self) -> float:
        return self.clock.frequency.value

    def constants(self) -> Iterator[tuple[str, Constant]]:
        """Every constant as ("section.key", Constant)."""
        for section in fields(self):
            value = getattr(self, section.name)
            if not isinstance(value, str):
                for key in fields(value):
                    yield f"{section.name}.{key.name}", getattr(value, key.name)


def load_chip(path: Path = DEFAULT_CHIP) -> ChipSpec:
    """Read and check a chip description.

    Raises ChipError, naming file and key, for a file that is not TOML, an unknown or missing
    key, a constant without grade or source, or a value outside its range.
    """
    try:
        with path.open("rb") as file:
            data = tomllib.load(file)
    except OSError as error:
        raise ChipError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, too long a number, too deep
        raise ChipError(f"{path}: not TOML: {error}") from None
    head = data.pop("chip", None)
    if not isinstance(head, dict) or set(head) != {"name", "title"}:
        raise ChipError(f"{path}: [chip] must hold name and title")
    sections = {}
    hints = get_type_hints(ChipSpec)
    for section, kind in hints.items():
        if section in ("name", "title"):
            continue
        table = data.pop(section, None)
        if not isinstance(table, dict):
            raise ChipError(f"{path}: section [{section}] is missing")
        keys = [f.name for f in fields(kind)]
        _same_keys(path, section, table, keys)
        sections[section] = kind(
            **{key: _constant(f"{path}: {section}.{key}", table[key]) for key in keys}
        )
    if data:
        raise ChipError(f"{path}: unknown section [{next(iter(data))}]")
    return ChipSpec(name=str(head["name"]), title=str(head["title"]), **sections)


def _same_keys(path: Path, section: str, table: dict[str, Any], keys: list[str]) -> None:
    for key in table:
        if key not in keys:
            raise ChipError(f"{path}: unknown key {section}.{key}")
    for key in keys:
        if key not in table:
            raise ChipError(f"{path}: key {section}.{key} is missing")


def _constant(where: str, entry: Any) -> Constant:
    if not isinstance(entry, dict) or set(entry) != CONSTANT_KEYS:
        raise ChipError(f"{where} must hold exactly {', '.join(sorted(CONSTANT_KEYS))}")
    value, bounds = entry["value"], entry["range"]
    numbers = [value, *bounds] if isinstance(bounds, list) else []
    if len(numbers) != 3 or not all(is_real(n) for n in numbers):
        raise ChipError(f"{where}: value and range [low, high] must be finite numbers")
    if not bounds[0] <= value <= bounds[1]:
        raise ChipError(f"{where} = {value} is outside its range {bounds[0]} to {bounds[1]}")
    if bounds[0] < 0 or bounds[1] == 0:
        raise ChipError(f"{where}: a range of {bounds[0]} to {bounds[1]} makes no sense")
    if where.endswith(DIVISORS) and bounds[0] < 1:
        raise ChipError(f"{where} divides work into cycles: its range must begin at 1 or above")
    if entry["grade"] not in GRADES:
        raise ChipError(f"{where}: grade {entry['grade']!r} is none of {', '.join(GRADES)}")
    if not all(isinstance(entry[k], str) and entry[k] for k in ("unit", "source")):
        raise ChipError(f"{where}: unit and source must be given")
    return Constant(value, entry["unit"], (bounds[0], bounds[1]), entry["grade"], entry["source"])

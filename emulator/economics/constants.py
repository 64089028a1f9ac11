"""economics.toml, read and checked: every constant with unit, range, grade, source and date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emulator.errors import UsageError
from emulator.fields import is_real, shown
from emulator.toml_file import read_toml

ECONOMICS = Path(__file__).with_name("economics.toml")
GRADES = ("read", "computed", "second-hand", "derived", "assumed")
KEYS = {"value", "unit", "range", "grade", "source", "date"}


@dataclass(frozen=True, slots=True)
class Constant:
    """One price, power, rate or time, and how well it is known."""

    value: float
    unit: str
    range: tuple[float, float]
    grade: str
    source: str
    date: str

    def fixed(self, value: float) -> Constant:
        """The same, known to be `value`."""
        return replace(self, value=value, range=(value, value))


@dataclass(frozen=True, slots=True)
class Price:
    """A list price, $ a million tokens."""

    name: str
    into: float
    out: float
    grade: str
    source: str
    date: str


@dataclass(frozen=True, slots=True)
class Economics:
    """The whole file."""

    constants: Mapping[str, Constant]  # by "section.key"
    prices: tuple[Price, ...]
    throughput: Mapping[str, Any]  # rows by GPU, or a factor over the H200
    workloads: Mapping[str, dict[str, Any]]

    def value(self, key: str) -> float:
        return self.constants[key].value

    def let(self, key: str, value: float) -> Economics:
        """With one constant known. Raises UsageError for an unknown key or outside the range."""
        if key not in self.constants:
            raise UsageError(f"--let {key}: unknown; the keys are {', '.join(self.constants)}")
        constant = self.constants[key]
        low, high = constant.range
        if not low <= value <= high:
            wanted = f"its range {low:g} to {high:g} {constant.unit}"
            raise UsageError(f"--let {key}={value:g}: is outside {wanted}")
        return replace(self, constants={**self.constants, key: constant.fixed(value)})


def load_economics(path: Path | str = ECONOMICS) -> Economics:
    """Read a file like economics.toml.

    Raises UsageError, naming file and key, for what is not TOML, an unknown or missing key, another
    unit than in the packaged file, a value outside its range, or an unknown grade.
    """
    path = Path(path)
    data, _ = read_toml(path, UsageError)
    packaged, _ = read_toml(ECONOMICS, UsageError)
    units = {key: entry["unit"] for key, entry in _entries(packaged, ECONOMICS).items()}
    entries = _entries(data, path)
    for key in units:
        if key not in entries:
            raise UsageError(f"{path}: {key} is missing")
    constants = {}
    for key, entry in entries.items():
        if key not in units:
            raise UsageError(f"{path}: {key} is unknown; the keys are {', '.join(units)}")
        constants[key] = _constant(f"{path}: {key}", entry, units[key])
    try:
        prices = tuple(Price(**row) for row in data["price"])
    except (TypeError, KeyError):
        raise UsageError(f"{path}: a price holds name, into, out, grade, source, date") from None
    for price in prices:
        if not (is_real(price.into) and is_real(price.out) and price.into >= 0 and price.out > 0):
            raise UsageError(f"{path}: price {price.name}: into and out must be positive $ per M")
    for name, rows in _rates(data).items():
        if not (is_real(rows) or _are_rows(rows)):
            raise UsageError(f"{path}: throughput.{name}: write rows of in, out, tokens/s")
    workloads = data.get("workload", {})
    if not (isinstance(workloads, dict) and all(isinstance(w, dict) for w in workloads.values())):
        raise UsageError(f"{path}: [workload] must hold sections")
    return Economics(constants, prices, _rates(data), workloads)


def _rates(data: dict[str, Any]) -> dict[str, Any]:
    """Rows by GPU, or a factor over another GPU's."""
    section = data["throughput"]
    return {name: rows for name, rows in section.items() if isinstance(rows, (list, float, int))}


def _are_rows(rows: Any) -> bool:
    return (
        isinstance(rows, list)
        and len(rows) >= 3
        and all(isinstance(row, list) and len(row) == 3 for row in rows)
        and all(is_real(number) and number > 0 for row in rows for number in row)
    )


def _entries(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """Everything that looks like a constant, by "section.key"."""
    found = {}
    for section, table in data.items():
        if section in ("price", "workload"):
            continue
        if not isinstance(table, dict):
            raise UsageError(f"{path}: [{section}] must be a section of constants")
        for key, entry in table.items():
            if isinstance(entry, dict):
                found[f"{section}.{key}"] = entry
            elif section != "throughput":
                raise UsageError(f"{path}: {section}.{key} must hold value, unit, range, ...")
    return found


def _constant(where: str, entry: dict[str, Any], unit: str) -> Constant:
    if set(entry) != KEYS:
        raise UsageError(f"{where} must hold exactly {', '.join(sorted(KEYS))}")
    bounds = entry["range"]
    numbers = [entry["value"], *bounds] if isinstance(bounds, list) else []
    if len(numbers) != 3 or not all(is_real(n) for n in numbers):
        raise UsageError(f"{where}: value and range [low, high] must be finite numbers")
    value, low, high = map(float, numbers)
    if entry["unit"] != unit:
        raise UsageError(f"{where} has unit {shown(entry['unit'])}, not {unit!r}")
    if not 0 <= low <= high:
        raise UsageError(f"{where}: a range of {low:g} to {high:g} makes no sense")
    if not low <= value <= high:
        raise UsageError(f"{where} = {value:g} is outside its range {low:g} to {high:g} {unit}")
    if entry["grade"] not in GRADES:
        raise UsageError(f"{where}: grade {shown(entry['grade'])} is none of {', '.join(GRADES)}")
    texts = [entry["source"], entry["date"]]
    if not all(isinstance(text, str) and text for text in texts):
        raise UsageError(f"{where}: source and date must be given")
    return Constant(value, unit, (low, high), entry["grade"], texts[0], texts[1])

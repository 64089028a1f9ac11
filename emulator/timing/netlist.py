"""The netlist's counts beside the description's constants, and the lanes that fit by them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emulator.chip import Stage
from emulator.errors import ChipError
from emulator.silicon.spec import ChipSpec
from emulator.timing.budget import GIGA, adder_rows, shape_of, total, transistor_parts
from emulator.timing.die import SHARING
from emulator.timing.energy import values_at
from emulator.toml_file import read_toml

COUNTS = Path(__file__).with_name("netlist.toml")


@dataclass(frozen=True, slots=True)
class Counts:
    """Transistors of a part, as a netlist has them."""

    grade: str
    source: str
    row: dict[int, int]  # of a matrix row, by fabric lanes
    parts: dict[str, int]  # of the others, by name


@dataclass(frozen=True, slots=True)
class Fit:
    """A chip whose rows are as counted."""

    sharing: str
    lanes: int
    row: int  # transistors, counted
    described: float  # the same by the description's constants
    billions: float  # of the whole chip, with the counted rows
    published: float

    @property
    def fits(self) -> bool:
        return self.billions <= self.published


def counts(path: Path = COUNTS) -> Counts:
    """Raises ChipError for a file that is not whole."""
    data, _ = read_toml(path, ChipError)
    try:
        rows = {int(lanes): int(count) for lanes, count in data["row"].items()}
        parts = {str(name): int(count) for name, count in data.get("part", {}).items()}
        return Counts(str(data["grade"]), str(data["source"]), rows, parts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ChipError(f"{path}: not whole: {error!r}") from None


def fits(stages: list[Stage], spec: ChipSpec, counted: Counts) -> list[Fit]:
    """Owned and shared adders at every counted number of lanes; the rest as described."""
    shape, found = shape_of(stages), []
    for sharing, owned in SHARING.items():
        for lanes, row in counted.row.items():
            one = spec.with_value("fabric.owned", owned).with_value("fabric.lanes", lanes)
            at = values_at(one)
            described = at("transistors.row") + at("transistors.row_lane") * lanes
            more = adder_rows(at, shape) * (row - described) / GIGA
            billions = float(total(transistor_parts(at, shape)) + more)
            limit = spec.published.transistors.value
            found.append(Fit(sharing, lanes, row, described, billions, limit))
    return found

"""Energy of a token, area and transistors of a die: estimates, each as low, middle and high.

The architecture (clock, lanes, memories) stays as described; low and high take every constant of
[energy], [area] and [transistors] at the same end of its range, so they bracket wider than chance
would. The published figures stand beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emulator.silicon.cost import Cost
from emulator.silicon.sections import Constant
from emulator.silicon.spec import ChipSpec
from emulator.timing.budget import (
    At,
    Parts,
    Shape,
    Work,
    area_parts,
    dynamic_parts,
    power_parts,
    static_parts,
    transistor_parts,
)

PHYSICS = ("energy", "area", "transistors")  # sections whose ranges make the bracket


@dataclass(frozen=True, slots=True)
class Bracket:
    """An estimate; each part's name holds what it is of."""

    low: dict[str, float]
    mid: dict[str, float]
    high: dict[str, float]

    @property
    def totals(self) -> tuple[float, float, float]:
        return sum(self.low.values()), sum(self.mid.values()), sum(self.high.values())

    def to_json(self, unit: str) -> dict[str, object]:
        low, mid, high = self.totals
        parts = {n: [self.low[n], self.mid[n], self.high[n]] for n in self.mid}
        return {
            "estimate": True,
            "unit": unit,
            "low": low,
            "mid": mid,
            "high": high,
            "parts": parts,
        }


def values_at(spec: ChipSpec, pick: Callable[[Constant], float] = lambda c: c.value) -> At:
    """The lookup that `budget` reads: `pick` chooses within the ranges of the physics."""
    known = {
        key: pick(c) if key.split(".")[0] in PHYSICS else c.value for key, c in spec.constants()
    }
    return known.__getitem__


def _bracket(spec: ChipSpec, parts: Callable[[At], Parts]) -> Bracket:
    picks: tuple[Callable[[Constant], float], ...] = (
        lambda c: c.range[0],
        lambda c: c.value,
        lambda c: c.range[1],
    )
    ends = (parts(values_at(spec, pick)) for pick in picks)
    return Bracket(*({name: float(x) for name, x in end.items()} for end in ends))


def card_power(spec: ChipSpec, shape: Shape, work: Cost, tokens_per_second: float) -> Bracket:
    """W of a card that makes so many tokens, each of which does `work`."""
    return _bracket(spec, lambda at: power_parts(at, shape, Work.of(work), tokens_per_second))


def token_energy(spec: ChipSpec, shape: Shape, work: Cost, seconds: float) -> Bracket:
    """J of one token that does `work` in `seconds`."""

    def parts(at: At) -> Parts:
        idle = {name: watts * seconds for name, watts in static_parts(at, shape).items()}
        return dynamic_parts(at, shape, Work.of(work)) | idle

    return _bracket(spec, parts)


def die_area(spec: ChipSpec, shape: Shape) -> Bracket:
    """mm2 by part, for the whole model in one die."""
    return _bracket(spec, lambda at: area_parts(at, shape))


def transistors(spec: ChipSpec, shape: Shape) -> Bracket:
    """Billions of transistors by part."""
    return _bracket(spec, lambda at: transistor_parts(at, shape))


def too_much(spec: ChipSpec, area: Bracket, count: Bracket, power: Bracket) -> list[str]:
    """Each published figure that the middle estimate exceeds, and whether even the low one does."""
    published = spec.published
    limits = (
        ("die", "mm2", area, published.die.value),
        ("transistors", "billion", count, published.transistors.value),
        ("power", "W", power, published.power.value),
    )
    found = []
    for name, unit, bracket, limit in limits:
        low, mid, high = bracket.totals
        if mid > limit:
            text = f"{name}, {mid:,.0f} of {limit:,.0f} {unit} ({low:,.0f} to {high:,.0f})"
            found.append(text + (": too large even at its low end" if low > limit else ""))
    return found

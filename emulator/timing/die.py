"""What a chip of given lanes needs when every row owns its adders, and when layers share them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from emulator.chip import Stage
from emulator.silicon.spec import ChipSpec
from emulator.timing.budget import shape_of
from emulator.timing.energy import Bracket, card_power, die_area, too_much, transistors
from emulator.timing.schedule import stage_cycles, token_work

LANES = (8, 16, 32, 64)
SHARING = {"owned": 1, "shared": 0}  # values of fabric.owned


@dataclass(frozen=True, slots=True)
class Die:
    """A whole chip as it would be built, with one user at one context."""

    tokens_per_second: float
    area: Bracket  # mm2
    transistors: Bracket  # billions
    power: Bracket  # W
    too_much: list[str]

    def to_json(self) -> dict[str, Any]:
        return {
            "tokens_per_second": self.tokens_per_second,
            "die_area": self.area.to_json("mm2"),
            "transistors": self.transistors.to_json("billion"),
            "card_power": self.power.to_json("W"),
            "too_much": self.too_much,
        }


def die_of(stages: list[Stage], spec: ChipSpec, context: int) -> Die:
    """The chip of these blocks, at work for one user."""
    shape, work = shape_of(stages), token_work(stages, spec, context)
    rate = spec.clock_hz / sum(stage_cycles(stages, spec, context).values())
    area, count = die_area(spec, shape), transistors(spec, shape)
    power = card_power(spec, shape, work, rate)
    return Die(rate, area, count, power, too_much(spec, area, count, power))


def too_much_of(stages: list[Stage], spec: ChipSpec, context: int) -> list[str]:
    """What of such a chip exceeds the published."""
    return die_of(stages, spec, context).too_much


def readings(
    stages: list[Stage], spec: ChipSpec, context: int, lanes: Iterable[int] = LANES
) -> dict[tuple[str, int], Die]:
    """By sharing and lanes."""
    return {
        (sharing, count): die_of(
            stages,
            spec.with_value("fabric.owned", owned).with_value("fabric.lanes", count),
            context,
        )
        for sharing, owned in SHARING.items()
        for count in lanes
    }

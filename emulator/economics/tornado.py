"""Which constant decides: a cost at both ends of each range, all others at their values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emulator.economics.constants import Constant, Economics
from emulator.economics.draws import Known, at_end


@dataclass(frozen=True, slots=True)
class Swing:
    """A cost over the range of one constant."""

    key: str
    constant: Constant
    at_low: float
    at_high: float

    @property
    def size(self) -> float:
        return abs(self.at_high - self.at_low)


def tornado(economics: Economics, cost: Callable[[Known], float]) -> list[Swing]:
    """Every constant that moves the cost at all, the largest swing first."""
    swings = [
        Swing(key, constant, *(cost(at_end(economics, key, end)) for end in (0, 1)))
        for key, constant in economics.constants.items()
        if constant.range[0] < constant.range[1]
    ]
    return sorted((s for s in swings if s.size > 0), key=lambda s: (-s.size, s.key))

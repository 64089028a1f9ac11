"""Which constant of the chip moves the decode rate most, and which value alone meets a rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from emulator.chip import Stage
from emulator.errors import UsageError
from emulator.silicon.sections import Constant
from emulator.silicon.spec import ChipSpec, whole
from emulator.timing.die import too_much_of
from emulator.timing.schedule import stage_cycles
from emulator.workers.pool import in_order

MOST = 100_000  # values of one sweep
GRID = 200  # whole values of a constant that are tried at most
REACHED = 1e-4  # a rate this near to the wanted one counts as met


@dataclass(frozen=True, slots=True)
class Swing:
    """The decode rate over the range of one constant, all others as they are."""

    key: str
    constant: Constant
    rate_low: float  # tokens/s at the low end of the range
    rate_high: float
    nearest: float  # the value in the range whose rate comes nearest to the wanted one
    nearest_rate: float
    reached: bool
    too_much_low: list[str]  # what of die, transistors and power exceeds the published at that end
    too_much_high: list[str]

    @property
    def size(self) -> float:
        return abs(self.rate_high - self.rate_low)

    def to_json(self) -> dict[str, Any]:
        c = self.constant
        return {
            "key": self.key,
            "value": c.value,
            "unit": c.unit,
            "range": list(c.range),
            "grade": c.grade,
            "tokens_per_second": {"low": self.rate_low, "high": self.rate_high},
            "too_much": {"low": self.too_much_low, "high": self.too_much_high},
            "alone": {
                "value": self.nearest,
                "tokens_per_second": self.nearest_rate,
                "reached": self.reached,
            },
        }


def decode_rate(stages: list[Stage], spec: ChipSpec, context: int) -> float:
    """tokens/s of one user where the vendor measured: in the oldest deployment."""
    lab = next(iter(spec.deployment.values()))
    seconds = sum(stage_cycles(stages, spec, context).values()) / spec.clock_hz
    return 1 / (seconds + 1e-6 * lab.decode_step.value)


def sweep(
    stages: list[Stage], spec: ChipSpec, key: str, values: Iterable[float], context: int
) -> list[tuple[float, float]]:
    """(value, tokens/s) for each value of one constant. Raises ChipError outside its range."""
    return [(v, decode_rate(stages, spec.with_value(key, v), context)) for v in values]


def values_of(text: str, spec: ChipSpec) -> tuple[str, list[float]]:
    """ "fabric.lanes=8:64:57" as a key and that many evenly spaced values, whole where it counts.

    Raises UsageError for another form and ChipError for an unknown key.
    """
    key, _, span = text.partition("=")
    unit = spec.constant(key).unit
    try:
        first, last, number = span.split(":")
        low, high, count = float(first), float(last), int(number)
    except ValueError:
        raise UsageError(f"--sweep {text}: write section.key=low:high:count") from None
    if not (2 <= count <= MOST and math.isfinite(high - low)):
        raise UsageError(f"--sweep {text}: low and high must be numbers, count 2 to {MOST}")
    values = [low + i * (high - low) / (count - 1) for i in range(count)]
    return key, sorted({round(v) for v in values}) if whole(unit) else values


def tornado(
    stages: list[Stage],
    spec: ChipSpec,
    context: int,
    wanted: float,
    workers: Executor | None = None,
) -> list[Swing]:
    """Every constant that moves the rate at all, the largest swing first."""
    each = ((stages, spec, context, wanted, key, constant) for key, constant in spec.constants())
    swings = [found for found in in_order(workers, swing_of, each) if found is not None]
    return sorted(swings, key=lambda swing: -swing.size)


def swing_of(
    stages: list[Stage], spec: ChipSpec, context: int, wanted: float, key: str, constant: Constant
) -> Swing | None:
    """The swing of one constant; None if it does not move the rate."""
    low, high = constant.range
    ends = sweep(stages, spec, key, (low, high), context)
    if ends[0][1] == ends[1][1]:
        return None
    value, rate = _nearest(stages, spec, key, constant, context, wanted)
    reached = abs(rate / wanted - 1) < REACHED
    over = [too_much_of(stages, spec.with_value(key, end), context) for end in (low, high)]
    return Swing(key, constant, ends[0][1], ends[1][1], value, rate, reached, *over)


def _nearest(
    stages: list[Stage], spec: ChipSpec, key: str, constant: Constant, context: int, wanted: float
) -> tuple[float, float]:
    """The value whose rate is nearest: whole values are tried, others found by halving."""

    def at(value: float) -> tuple[float, float]:
        return sweep(stages, spec, key, (value,), context)[0]

    low, high = constant.range
    if whole(constant.unit):
        step = (high - low) / (GRID - 1)
        values = {constant.value, *(round(low + i * step) for i in range(GRID))}
        return min(
            map(at, sorted(values)), key=lambda v: (abs(v[1] - wanted), v[0] != constant.value)
        )
    rising = at(high)[1] > at(low)[1]
    for _ in range(60):
        middle = (low + high) / 2
        if (at(middle)[1] < wanted) == rising:
            low = middle
        else:
            high = middle
    return at(low)

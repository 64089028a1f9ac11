"""Many users on one chip: the units set the pace, the KV SRAM their number, the card its watts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from emulator.chip import Stage
from emulator.silicon.spec import ChipSpec
from emulator.timing.budget import (
    At,
    Shape,
    Work,
    area_parts,
    dynamic_parts,
    power_parts,
    shape_of,
    static_parts,
    total,
    users_held,
)
from emulator.timing.energy import values_at
from emulator.timing.events import pace, path_of
from emulator.timing.prefill import Aggregate
from emulator.timing.schedule import token_work


@dataclass(frozen=True, slots=True)
class Users:
    """Decode of `served` users side by side, each at `context` positions."""

    context: int
    asked: int
    served: int  # as many as the KV SRAM holds
    cycles_per_token: float  # of all together
    tokens_per_second: float  # of all together, as the units allow
    power_w: float  # of the card at that rate
    within_power: float  # tokens/s of all together at the published power

    def to_json(self) -> dict[str, Any]:
        return {
            "context": self.context,
            "asked": self.asked,
            "served": self.served,
            "cycles_per_token": self.cycles_per_token,
            "tokens_per_second": self.tokens_per_second,
            "tokens_per_second_each": self.tokens_per_second / self.served,
            "power_w": self.power_w,
            "tokens_per_second_within_power": self.within_power,
        }


def many_users(stages: list[Stage], spec: ChipSpec, context: int, asked: int) -> Users:
    """By the schedule of events; middle estimates of power."""
    shape = shape_of(stages)
    served = min(asked, users_held(shape, int(spec.kv_sram.positions), context))
    cycles = pace([path_of(stages, spec, context)] * served)
    rate = spec.clock_hz / cycles
    at = values_at(spec)
    work = Work.of(token_work(stages, spec, context))
    power = float(total(power_parts(at, shape, work, rate)))
    idle, joule = total(static_parts(at, shape)), total(dynamic_parts(at, shape, work))
    within = max(0.0, float((spec.published.power.value - idle) / joule))
    return Users(context, asked, served, cycles, rate, power, min(rate, within))


def needs(
    stages: list[Stage], spec: ChipSpec, context: int, aggregate: Aggregate
) -> tuple[float, float]:
    """mm2 and W of a chip whose every layer has all units, and whose SRAM holds all its users.

    Middle estimates; owned adders, and one vector unit, attention and set of KV ports a layer.
    """
    shape = shape_of(stages)
    at = _one_of_each(values_at(spec), shape, aggregate.users * context)
    windows = {aggregate.users * window: layers for window, layers in shape.windows.items()}
    shape = replace(shape, windows=windows)  # each user's own
    work = Work.of(token_work(stages, spec, context))
    power = power_parts(at, shape, work, aggregate.tokens_per_second)
    return float(total(area_parts(at, shape))), float(total(power))


def _one_of_each(at: At, shape: Shape, positions: int) -> At:
    changed: dict[str, Any] = {"fabric.owned": 1, "kv_sram.positions": positions}
    for key in ("attention.macs", "vector.lanes", "kv_sram.bandwidth"):
        changed[key] = shape.layers * at(key)
    return lambda key: changed[key] if key in changed else at(key)

"""Energy of a token and area of a die: estimates, each as low, middle and high.

Low and high take every constant at the same end of its range, so they bracket wider than chance
would; the published figures stand beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emulator.config import LlamaConfig
from emulator.silicon.cost import Cost
from emulator.silicon.sections import Constant
from emulator.silicon.spec import ChipSpec
from emulator.timing.models import kv_sram_bits, rom_bits
from weights.mix import Mix

PICO, GIGA, MICRO2 = 1e-12, 1e9, 1e-6  # MICRO2: um2 in mm2


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


Pick = Callable[[Constant], float]


def _bracket(parts: Callable[[Pick], dict[str, float]]) -> Bracket:
    return Bracket(
        parts(lambda c: c.range[0]), parts(lambda c: c.value), parts(lambda c: c.range[1])
    )


def token_energy(spec: ChipSpec, work: Cost, seconds: float) -> Bracket:
    """J of one token that does `work` in `seconds`."""
    e = spec.energy
    return _bracket(
        lambda pick: {
            "multiply-accumulate": work.macs * pick(e.mac) * PICO,
            "ROM": work.rom_bits * pick(e.rom) * PICO,
            "KV SRAM": work.sram_bits * pick(e.sram) * PICO,
            "leakage": seconds * pick(e.leakage),
            "card": seconds * pick(e.card),
        }
    )


def card_power(spec: ChipSpec, work: Cost, seconds: float) -> Bracket:
    """W of a card that makes such a token every `seconds`."""
    energy = token_energy(spec, work, seconds)
    return Bracket(
        *(
            {n: j / seconds for n, j in part.items()}
            for part in (energy.low, energy.mid, energy.high)
        )
    )


def die_area(spec: ChipSpec, config: LlamaConfig, mix: Mix) -> Bracket:
    """mm2 by part, for the whole model in one die."""
    a = spec.area
    rom, sram = _gigabits(spec, config, mix)
    return _bracket(
        lambda pick: {
            "ROM with its adders": rom * pick(a.rom),
            "KV SRAM": sram * pick(a.sram),
            "attention": 2 * spec.attention.macs.value * pick(a.attention) * MICRO2,
            "vector unit": spec.vector.lanes.value * pick(a.vector) * MICRO2,
            "rest": pick(a.rest),
        }
    )


def transistors(spec: ChipSpec, config: LlamaConfig, mix: Mix) -> Bracket:
    """Billions of transistors by part."""
    t = spec.transistors
    rom, sram = _gigabits(spec, config, mix)
    return _bracket(
        lambda pick: {
            "ROM": rom * pick(t.rom),
            "KV SRAM": sram * pick(t.sram),
            "logic": pick(t.logic),
        }
    )


def _gigabits(spec: ChipSpec, config: LlamaConfig, mix: Mix) -> tuple[float, float]:
    """Gbit of the ROM and of the KV SRAM."""
    rom = rom_bits(config, mix, int(spec.kv_sram.positions))
    return rom / GIGA, kv_sram_bits(config, spec) / GIGA

"""Cycles and work of one operation on a given chip; blocks add these up.

A block's cycles are what it adds to a token's critical path, given that its consumer starts on
the first values that leave it. Time depends on shapes and position, never on data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from emulator.silicon.spec import ChipSpec


@dataclass(frozen=True, slots=True)
class Cost:
    """What one block spends on one token."""

    cycles: int
    macs: int = 0  # multiply-accumulates of weights, or of attention
    rom_bits: int = 0  # read from the masks
    sram_bits: int = 0  # read from or written to the KV SRAM

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.cycles + other.cycles,
            self.macs + other.macs,
            self.rom_bits + other.rom_bits,
            self.sram_bits + other.sram_bits,
        )


NOTHING = Cost(0)


def passes(chip: ChipSpec, values: int) -> int:
    """Cycles in which the vector unit takes `values` in."""
    return math.ceil(values / chip.vector.lanes.value)


def tree(inputs: float) -> int:
    """Stages of an adder or compare tree over `inputs`."""
    return math.ceil(math.log2(inputs)) if inputs > 1 else 0


def stream(chip: ChipSpec, values: int) -> int:
    """An elementwise unit: fill of its pipeline, then as many cycles as the values need."""
    return int(chip.vector.pipeline.value) + passes(chip, values) - 1


def reduce(chip: ChipSpec, values: int) -> int:
    """Sum or maximum over `values`: taken in, then down the tree of the lanes."""
    return passes(chip, values) + tree(min(values, chip.vector.lanes.value))


def fabric_pass(chip: ChipSpec, columns: int, bits: int) -> int:
    """A matrix-vector product: inputs G a cycle to all rows, then the adders and scales drain."""
    lanes = chip.fabric.lanes.value
    feed = math.ceil(columns / lanes)
    split = chip.fabric.split_code.value if bits > 4 else 0
    drain = tree(lanes) + split + chip.fabric.scale_drain.value
    return int(chip.fabric.alphabet_setup.value + feed + drain)


def narrow(chip: ChipSpec, values: int) -> int:
    """Absolute maximum, its reciprocal, and the first multiplications by it."""
    return reduce(chip, values) + int(chip.vector.divide.value) + int(chip.vector.pipeline.value)


def hadamard(chip: ChipSpec, values: int, block: int) -> int:
    """log2(block) stages of adders, pipelined."""
    return tree(block) + passes(chip, values) - 1

"""Cycles and work of one operation on a given chip; blocks put these together.

A vector crosses the chip as a wave: its first values leave a unit at one cycle, its last at
another. A unit is a phase: it takes so many cycles to take the vector in, has a latency from a
value in to its result out, and treats the vector in one or many parts that do not wait for each
other. An elementwise unit has one a value, so its consumer starts at once; a sum or a maximum has
one in all, so nothing leaves before the last value is in. Parts follow from the model alone, takes
and latencies from the chip, so a token's time never falls when one of these grows. Time depends
on shapes and position, never on data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from emulator.silicon.spec import ChipSpec


class Wave(NamedTuple):
    """Cycles at which the first and the last values of a vector are there."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Phase:
    """One unit's part in a token's path."""

    take: int  # cycles to take the vector in, at least 1
    latency: int  # from a value in to its result out
    parts: int = 1  # pieces of the vector that do not wait for each other
    unit: str = "vector"  # what is busy meanwhile; tokens of several users compete for it

    def after(self, wave: Wave) -> Wave:
        """The wave that leaves, of a wave that comes in no faster than `take` allows."""
        span = max(self.take, wave.last - wave.first + 1)
        part = -(-span // self.parts)
        return Wave(wave.first + part - 1 + self.latency, wave.first + span - 1 + self.latency)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one block spends on one token: its phases in order, and its work."""

    phases: tuple[Phase, ...] = ()
    macs: int = 0  # multiply-accumulates of weights, or of attention
    rom_bits: int = 0  # read from the masks
    sram_bits: int = 0  # read from or written to the KV SRAM
    row_cycles: int = 0  # cycles in which a row's accumulator adds, over all rows
    wire_bits: int = 0  # across the die: inputs to the fabric, results back

    def after(self, wave: Wave) -> Wave:
        """The wave that leaves the block's last phase."""
        for phase in self.phases:
            wave = phase.after(wave)
        return wave

    @property
    def cycles(self) -> int:
        """From a vector that is there to the last value out, of this block alone."""
        return self.after(Wave(0, 0)).last


NOTHING = Cost()
GROUP_SCALE = 2  # of a drain's cycles: a group's sum times its scale, added to the row's
WHOLE_VECTOR = Phase(1, 0, unit="")  # holds the vector back until its last value is in


def passes(spec: ChipSpec, values: int) -> int:
    """Cycles in which the vector unit takes `values` in."""
    return math.ceil(values / spec.vector.lanes.value)


def tree(spec: ChipSpec, inputs: float) -> int:
    """Cycles of an adder or compare tree over `inputs`, several levels a cycle."""
    return math.ceil(math.ceil(math.log2(inputs)) / spec.vector.levels.value) if inputs > 1 else 0


def stream(spec: ChipSpec, values: int, latency: int | None = None) -> Phase:
    """An elementwise unit: its pipeline fills, then every value that comes leaves as a result."""
    latency = int(spec.vector.pipeline) if latency is None else latency
    return Phase(passes(spec, values), latency, values)


def reduce(spec: ChipSpec, values: int, over: int | None = None) -> Phase:
    """Sums or maxima over every `over` of `values` (all of them), down the tree, then a register.

    With several sums in a vector, the first is out before the last values are in.
    """
    over = values if over is None else over
    inputs = min(over, spec.vector.lanes.value)
    return Phase(passes(spec, values), tree(spec, inputs) + 1, values // over)


def narrow(spec: ChipSpec, values: int, over: int | None = None) -> tuple[Phase, ...]:
    """To int8: absolute maximum, its reciprocal, and the values multiplied by it."""
    peaks = values // (over or values)
    return (
        reduce(spec, values, over),
        Phase(passes(spec, peaks), int(spec.vector.reciprocal), values),  # no peak waits for one
        stream(spec, values),
    )


def rotate_narrow(
    spec: ChipSpec, values: int, block: int, over: int | None = None
) -> tuple[Phase, ...]:
    """To int16 by the maximum's bit length, rotated, then to int8."""
    return (reduce(spec, values, over), hadamard(spec, values, block), *narrow(spec, values, over))


def hadamard(spec: ChipSpec, values: int, block: int) -> Phase:
    """The shift to int16 and log2(block) levels of adders; a block waits for all of its values."""
    return Phase(passes(spec, values), tree(spec, block) + 1, values // block)


def fabric_pass(spec: ChipSpec, columns: int, rows: int, bits: int) -> tuple[Phase, Phase]:
    """A matrix-vector product: inputs G a cycle to all rows, then the rows drain V a cycle.

    A weight wider than a cell lies in several cells, whose products meet in the adder tree; cells
    that the array cannot select in one cycle cost another. All rows have their sums in one cycle;
    a register a row holds them while V lanes of scales and rounding take them, pair by pair where
    the next block wants pairs, so that it starts on the first. The way from the vector unit to the
    rows and back is registers in a line, which do not hold up what follows.
    """
    cells = math.ceil(bits / spec.fabric.cell_bits.value)
    turns = math.ceil(cells / spec.fabric.cells.value)
    lanes = spec.fabric.lanes.value
    feed = Phase(
        take=math.ceil(columns / lanes) * turns,
        latency=int(spec.fabric.wire)
        + int(spec.fabric.alphabet_setup)
        + tree(spec, lanes * cells)
        + 1,  # the accumulator
        unit="fabric",
    )
    return feed, drain(spec, rows)


def drain(spec: ChipSpec, rows: int) -> Phase:
    """The rows' sums through V lanes of scales and rounding, behind the scale of a group."""
    return stream(spec, rows, int(spec.fabric.scale_drain))


def late_drain(spec: ChipSpec, rows: int) -> Phase:
    """The same of sums that are whole, the groups' scales in them."""
    return stream(spec, rows, int(spec.fabric.scale_drain) - GROUP_SCALE)


def lora_turns(shapes: Sequence[tuple[int, int]], macs: int) -> list[list[tuple[int, int, int]]]:
    """B's rows dealt out over cycles, whole ones in order: (matrix, first row, last + 1) of each.

    `shapes`: rows and rank of each matrix.
    """
    turns: list[list[tuple[int, int, int]]] = []
    room = 0
    for matrix, (rows, rank) in enumerate(shapes):
        first = 0
        while rank and first < rows:
            if room < rank:
                turns.append([])
                room = max(macs, rank)
            some = min(rows - first, room // rank)
            turns[-1].append((matrix, first, first + some))
            room -= some * rank
            first += some
    return turns


def lora_latency(spec: ChipSpec, rank: int, cells: int) -> int:
    """From B's turn, or from that of single cells, to the sums: both take as long.

    B: products, their sum, its scale. Cells: an input fetched, a product, a row's sum, an addition.
    """
    at_once = min(cells, spec.lora.cells.value)
    products = 1 + tree(spec, rank) + int(spec.lora.scale) if rank else 0
    return max(products, 3 + tree(spec, at_once) if cells else 0)


def lora_late(spec: ChipSpec, rank: int, bits: int) -> int:
    """Cycles by which A's mantissas are later than the sums of a fabric of `bits` a weight.

    Products, sum over the lanes and over the inputs, maximum, shift; the fabric forms the
    alphabet's products, sums over lanes and inputs of a group, scales that and adds it up.
    """
    lanes = spec.fabric.lanes.value
    cells = math.ceil(bits / spec.fabric.cell_bits.value)
    mantissas = 1 + tree(spec, lanes) + 1 + tree(spec, rank) + 1 + 1
    sums = int(spec.fabric.alphabet_setup) + tree(spec, lanes * cells) + 1 + GROUP_SCALE
    return max(0, mantissas - sums)


def lora_pass(
    spec: ChipSpec, columns: int, bits: int, shapes: Sequence[tuple[int, int]], cells: int
) -> tuple[Phase, ...]:
    """What an adapter adds behind a fabric's sums, of `columns` inputs and `bits` a weight.

    A (the ranks of all matrices that share the input) takes the inputs as the fabric does, beside
    it; it costs time only where it has fewer multipliers than ranks * lanes. Its sums then become
    mantissas, matrix by matrix. B's products and a repair's cells follow; the rows drain then.
    """
    macs, widest = spec.lora.macs.value, max(rank for _, rank in shapes)
    feed = math.ceil(columns / spec.fabric.lanes.value)
    behind = math.ceil(columns * sum(rank for _, rank in shapes) / macs) - feed
    late = max(behind, 0) + (lora_late(spec, widest, bits) if widest else 0)
    take = len(lora_turns(shapes, int(macs))) + math.ceil(cells / spec.lora.cells.value)
    added = Phase(max(take, 1), lora_latency(spec, widest, cells), unit="lora")
    return (*([Phase(late + 1, 0, unit="lora")] if late else []), added)

# amaranth: UnusedElaboratable=no
"""Weight fabric: products of the alphabet are formed once, and the cells of every row select.

A row adds what its cells select into its group's sum, multiplies that by the group's scale, and
adds it up; then V rows a cycle are multiplied by their scales, rounded and clamped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from amaranth.hdl import Const, Module, Value

from emulator.blocks.plain_matrix import plain_arrays
from emulator.blocks.weight_fabric import FabricSums, WeightFabric
from emulator.errors import ChipError
from emulator.rtl.arithmetic import requantised, scale_product
from emulator.rtl.block_rtl import BlockRtl, scale_port, scales_of
from emulator.rtl.library import Library, place, read_large_rom
from emulator.rtl.pipeline import (
    Port,
    beat_counter,
    bind,
    delay,
    emit,
    fields,
    join,
    step,
)
from emulator.rtl.rom import read_rom, word_of
from emulator.rtl.rows import ACC_BITS, FabricRows, wide_product
from emulator.silicon.cost import tree as tree_cycles
from emulator.silicon.spec import ChipSpec
from kernels.reference import FRACTION
from kernels.rom.pack import PackedMatrix

TILE_ROWS = 64  # rows of one instance, where a fabric is written as instances
MOST_ROWS = 128  # of a fabric that is written as one circuit


class WeightFabricRtl(BlockRtl):
    """x int8[columns], G a cycle -> one bus of int32[rows of all matrices], V a cycle.

    Gate and up drain in pairs, other matrices one behind the other.
    """

    def __init__(self, block: WeightFabric, spec: ChipSpec) -> None:
        super().__init__(spec)
        self.block = block
        self.matrices = block.matrices
        first = next(iter(self.matrices.values()))
        self.columns, self.group = first.columns, first.group
        self.feed = int(spec.fabric.lanes)
        self.cells = max(
            -(-matrix.bits // int(spec.fabric.cell_bits)) for matrix in self.matrices.values()
        )
        _refuse(spec, self.matrices, self.feed, self.cells)
        self.rows = sum(matrix.rows for matrix in self.matrices.values())
        self.pairs = tuple(self.matrices) == ("gate", "up")
        self.library: Library | None = None
        self.halves = False  # gate and up fill a half of each beat, instead of lying in pairs
        self.instances = self.rows > MOST_ROWS
        name = "_".join(self.matrices)
        self.inputs = [Port("x", self.columns, 8, self.feed), scale_port("x_scale")]
        self.outputs = [Port(name, self.rows, 32, self.lanes)]

    def elaborate(self, platform: Any) -> Module:
        self.library = platform
        return super().elaborate(platform)

    def build(self, m: Module) -> None:
        done, sums = self._sums(m)
        plain = [plain_arrays(matrix) for matrix in self.matrices.values()]
        scales = [(one["row_mantissa"], one["row_exponent"]) for one in plain]
        out, whole = self.outputs[0], self.library is not None
        drain(m, done, sums, scales, self.port("x_scale"), out, self.order(), self.spec, whole)

    def order(self) -> list[tuple[int, int]]:
        """Matrix and row of every value of the bus."""
        places = [(i, r) for i, one in enumerate(self.matrices.values()) for r in range(one.rows)]
        if not self.pairs:
            return places
        size = self.lanes // 2 if self.halves else 1  # rows of one matrix side by side
        return sorted(places, key=lambda place: (place[1] // size, *place))

    def _sums(self, m: Module) -> tuple[Value, list[list[Value]]]:
        """Pulse, and the sums of the rows of each matrix."""
        spec, x = self.spec, self.inputs[0]
        valid, lanes = delay(m, x.valid, list(x), int(spec.fabric.wire))
        setup = int(spec.fabric.alphabet_setup)
        sums: list[list[Value]] = []
        done: Value = Const(0, 1)
        for name, matrix in self.matrices.items():
            done, rows = self._rows(m, name, matrix, valid, lanes, setup)
            sums.append(rows)
        return done, sums

    def _rows(
        self, m: Module, name: str, matrix: PackedMatrix, valid: Value, lanes: list[Value],
        setup: int,
    ) -> tuple[Value, list[Value]]:  # fmt: skip
        """A matrix: pulse when its rows are summed up, and the sums."""
        plain = plain_arrays(matrix)
        parts = cell_levels([int(a) for a in plain["alphabet"]], self.spec_cells(matrix))
        products = [lane * level for lane in lanes for part in parts for level in part]
        valid, products = step(m, valid, products)
        valid, products = delay(m, valid, products, setup - 1)  # broadcast
        wide = [wide_product(value) for value in products]
        beats, groups = self.columns // self.feed, self.columns // matrix.group
        beat, _, _ = beat_counter(m, valid, beats)
        # the same count of groups as in every set of rows, for the mask of their scales
        stages = tree_cycles(self.spec, self.feed * self.cells)
        summed, _ = delay(m, valid, [], stages)
        _, _, last = beat_counter(m, summed, matrix.group // self.feed)
        group_done, _ = step(m, bind(m, summed & last), [])
        number, first, last = beat_counter(m, group_done, groups)
        done, _ = delay(m, bind(m, group_done & last), [], 2)
        sums: list[Value] = []
        at_once = matrix.rows if self.library is None else TILE_ROWS
        word = bind(m, join(wide))
        for begin in range(0, matrix.rows, at_once):
            rows = min(at_once, matrix.rows - begin)
            own = slice(begin, begin + rows)
            codes = [
                (plain["codes"][own, b * self.feed : (b + 1) * self.feed], matrix.bits)
                for b in range(beats)
            ]
            scales = [(plain["group_scale"][own, g], 8) for g in range(groups)]
            where = f"{name}_{begin}"
            unit = FabricRows(
                rows, self.feed, matrix.bits, [len(part) for part in parts],
                matrix.group // self.feed, stages,
            )  # fmt: skip
            place(m, self.library, where, unit)
            m.d.comb += [
                unit.valid.eq(valid),
                unit.products.eq(word),
                unit.codes.eq(read_large_rom(m, self.library, f"{where}_codes", beat, codes)),
                unit.scales.eq(read_large_rom(m, self.library, f"{where}_scales", number, scales)),
                unit.first.eq(first),
            ]
            sums += fields(unit.sums, [ACC_BITS] * rows, True)
        return done, sums

    def spec_cells(self, matrix: PackedMatrix) -> int:
        """Cells of a weight of this matrix."""
        return -(-matrix.bits // int(self.spec.fabric.cell_bits))


class FabricSumsRtl(WeightFabricRtl):
    """x int8[columns], G a cycle -> the sums of all rows at once, for an adapter to add to."""

    def __init__(self, block: FabricSums, spec: ChipSpec) -> None:
        super().__init__(block, spec)
        self.inputs = [self.inputs[0]]
        self.outputs = [Port("sums", self.rows, ACC_BITS)]

    def build(self, m: Module) -> None:
        done, sums = self._sums(m)
        self.outputs[0].drive(m, done, [row for rows in sums for row in rows])


def drain(
    m: Module, done: Value, sums: Sequence[Sequence[Value]],
    scales: Sequence[tuple[np.ndarray, np.ndarray]], x_scale: Port, out: Port,
    order: Sequence[tuple[int, int]], spec: ChipSpec, whole: bool = False,
) -> None:  # fmt: skip
    """V rows a cycle: scales multiplied, sum multiplied, rounded and clamped.

    `scales`: mantissas and exponents of the rows of each matrix. `order`: matrix and row of each.
    """
    rows = [sums[i][r] for i, r in order]
    valid, lanes, beat = emit(m, done, rows, int(spec.vector.lanes), whole)
    n = len(lanes)
    own = [(int(scales[i][0][r]), int(scales[i][1][r])) for i, r in order]
    own += [(0, 0)] * (-len(own) % n)
    words = [
        word_of([a | (b & 255) << 16 for a, b in own[at : at + n]], 24)
        for at in range(0, len(own), n)
    ]
    each = fields(read_rom(m, beat, words, 24 * n), [24] * n)
    steady = [bind(m, value) for value in scales_of(x_scale)[0]]
    staged: list[Value] = []
    for lane, scale in zip(lanes, each, strict=True):
        pair = (scale[:16], scale[16:].as_signed())
        staged += [lane, *scale_product(pair, (steady[0], steady[1]), FRACTION)]
    valid, staged = step(m, valid, staged)
    products: list[Value] = []
    for i in range(n):
        products += [staged[3 * i] * staged[3 * i + 1], staged[3 * i + 2]]
    valid, products = step(m, valid, products)
    found = [requantised(m, products[2 * i], products[2 * i + 1]) for i in range(n)]
    valid, found = step(m, valid, found)
    valid, found = delay(m, valid, found, int(spec.fabric.scale_drain) - 5)
    out.drive(m, valid, found)


def cell_levels(alphabet: list[int], cells: int) -> list[list[int]]:
    """What each cell of a weight selects from: all levels, or two parts that add up to them.

    Levels that no two cells can make as a sum are selected by one, as wide as both.
    """
    if cells == 2:
        high = [alphabet[h] for h in range(0, len(alphabet), 16)]
        low = [alphabet[i] - alphabet[0] for i in range(16)]
        if all(alphabet[i] == high[i // 16] + low[i % 16] for i in range(len(alphabet))):
            return [high, low]
    return [alphabet]


def _refuse(spec: ChipSpec, matrices: dict[str, PackedMatrix], feed: int, cells: int) -> None:
    """Raises ChipError for what has no RTL."""
    if cells > int(spec.fabric.cells):
        raise ChipError("cells that take turns (fabric.cells = 1): no RTL for that")
    if any(feed > matrix.group for matrix in matrices.values()):
        raise ChipError(f"{feed} fabric lanes hold several groups of weights: no RTL for that")
    if int(spec.fabric.scale_drain) < 5:
        raise ChipError("fabric.scale_drain below 5 cycles: no RTL for that")

"""Weight fabric: products of the alphabet are formed once, and the cells of every row select.

A row adds what its cells select into its group's sum, multiplies that by the group's scale, and
adds it up; then V rows a cycle are multiplied by their scales, rounded and clamped.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from emulator.blocks.plain_matrix import plain_arrays
from emulator.blocks.weight_fabric import FabricSums, WeightFabric
from emulator.errors import ChipError
from emulator.rtl.arithmetic import requantised, scale_product
from emulator.rtl.block_rtl import BlockRtl, scale_port, scales_of
from emulator.rtl.pipeline import (
    Port,
    beat_counter,
    bind,
    delay,
    emit,
    fields,
    join,
    pairwise,
    spread,
    step,
)
from emulator.rtl.rom import read_rom, word_of
from emulator.silicon.cost import tree as tree_cycles
from emulator.silicon.spec import ChipSpec
from kernels.reference import FRACTION
from kernels.rom.pack import PackedMatrix

PRODUCT_BITS = 15  # int8 times a level of at most 64, signed
ACC_BITS = 46


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
        name = "_".join(self.matrices)
        self.inputs = [Port("x", self.columns, 8, self.feed), scale_port("x_scale")]
        self.outputs = [Port(name, self.rows, 32, self.lanes)]

    def build(self, m: Module) -> None:
        done, sums = self._sums(m)
        plain = [plain_arrays(matrix) for matrix in self.matrices.values()]
        scales = [(one["row_mantissa"], one["row_exponent"]) for one in plain]
        drain(m, done, sums, scales, self.port("x_scale"), self.outputs[0], self.pairs, self.spec)

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
        spec, plain = self.spec, plain_arrays(matrix)
        parts = cell_levels([int(a) for a in plain["alphabet"]], self.spec_cells(matrix))
        products = [lane * level for lane in lanes for part in parts for level in part]
        valid, products = step(m, valid, products)
        valid, products = delay(m, valid, products, setup - 1)  # broadcast
        beats = self.columns // self.feed
        beat, _, _ = beat_counter(m, valid, beats)
        words = [
            word_of(
                plain["codes"][:, b * self.feed : (b + 1) * self.feed].ravel().tolist(), matrix.bits
            )
            for b in range(beats)
        ]
        width = matrix.rows * self.feed * matrix.bits
        word = bind(m, read_rom(m, beat, words, width))
        codes = fields(word, [matrix.bits] * (matrix.rows * self.feed))
        each = sum(len(part) for part in parts)
        buses: list[list[Value]] = []  # of each lane, of each of its cells, what it selects from
        for lane in range(self.feed):
            own, at = products[lane * each : (lane + 1) * each], 0
            buses.append([])
            for part in parts:
                some = [_wide(value) for value in own[at : at + len(part)]]
                buses[-1].append(bind(m, join(some)))
                at += len(part)
        selected = []
        for r in range(matrix.rows):
            for lane, bus in enumerate(buses):
                code = codes[r * self.feed + lane]
                index = [code] if len(bus) == 1 else [code[4:], code[:4]]
                selected += [
                    part.word_select(number, PRODUCT_BITS).as_signed()
                    for part, number in zip(bus, index, strict=True)
                ]
        size = self.feed * len(parts)
        level = pairwise(lambda a, b: a + b)
        depth = (size - 1).bit_length()

        def layer(values: list[Value]) -> list[Value]:
            own = len(values) // matrix.rows
            return [v for r in range(matrix.rows) for v in level(values[r * own : (r + 1) * own])]

        stages = tree_cycles(spec, self.feed * self.cells)
        valid, trees = spread(m, valid, selected, stages, [layer] * depth, sums=True)
        return self._accumulate(m, matrix, valid, trees)

    def _accumulate(
        self, m: Module, matrix: PackedMatrix, valid: Value, trees: list[Value]
    ) -> tuple[Value, list[Value]]:
        """The sum of a group, its scale, the sum of all groups: three cycles."""
        rows, groups = matrix.rows, self.columns // matrix.group
        _, first, last = beat_counter(m, valid, matrix.group // self.feed)
        width = len(trees[0]) + (matrix.group // self.feed).bit_length()
        group_done, sums = _summed(m, valid, first, last, trees, width)
        number, _, _ = beat_counter(m, group_done, groups)
        scales = plain_arrays(matrix)["group_scale"]
        words = [word_of(scales[:, g].tolist(), 8) for g in range(groups)]
        word = bind(m, read_rom(m, number, words, 8 * rows))
        scaled = [s * scale for s, scale in zip(sums, fields(word, [8] * rows, True), strict=True)]
        valid, scaled = step(m, group_done, scaled)
        _, first, last = beat_counter(m, valid, groups)
        return _summed(m, valid, first, last, scaled, ACC_BITS)

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
    scales: Sequence[tuple[np.ndarray, np.ndarray]], x_scale: Port, out: Port, pairs: bool,
    spec: ChipSpec,
) -> None:  # fmt: skip
    """V rows a cycle: scales multiplied, sum multiplied, rounded and clamped.

    `scales`: mantissas and exponents of the rows of each matrix. `pairs`: row by row of them all.
    """
    order = [(i, r) for i, rows in enumerate(sums) for r in range(len(rows))]
    if pairs:
        order.sort(key=lambda place: place[1])
    valid, lanes, beat = emit(m, done, [sums[i][r] for i, r in order], int(spec.vector.lanes))
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


def _wide(value: Value) -> Value:
    """A product at PRODUCT_BITS."""
    more = PRODUCT_BITS - len(value)
    sign = Cat(*[value[-1]] * more) if more > 0 and value.shape().signed else Const(0, max(more, 0))
    return Cat(value[:PRODUCT_BITS], sign) if more > 0 else value[:PRODUCT_BITS]


def _summed(
    m: Module, valid: Value, first: Value, last: Value, terms: list[Value], width: int
) -> tuple[Value, list[Value]]:
    """Each row's terms from first beat to last, added up; a pulse when the sums are there."""
    kept = Signal(len(terms) * width)
    sums = fields(kept, [width] * len(terms), True)
    done = Signal()
    m.d.sync += done.eq(valid & last)
    with m.If(valid):
        new = [
            _fit(t + Mux(first, 0, s).as_signed(), width) for t, s in zip(terms, sums, strict=True)
        ]
        m.d.sync += kept.eq(join(new))
    return done, sums


def _fit(value: Value, width: int) -> Value:
    """A sum that is known to fit, at exactly so many bits."""
    value = value.as_signed()
    if len(value) >= width:
        return value[:width]
    return Cat(value, *[value[-1]] * (width - len(value)))

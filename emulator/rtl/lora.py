"""LoRA: what the adapter SRAM adds to a fabric's sums, before they are requantised.

A takes the inputs as the fabric does. B's rows come in turns, as many as there are multipliers
for; then single cells, which a repair adds. A register a row holds the sums until all are in.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from emulator.blocks.lora import Lora
from emulator.errors import ChipError
from emulator.rtl.arithmetic import excess, round_shift
from emulator.rtl.block_rtl import BlockRtl, scale_port
from emulator.rtl.lora_cells import cell_sums
from emulator.rtl.narrow import magnitude, running
from emulator.rtl.pipeline import (
    Port,
    beat_counter,
    bind,
    clip_width,
    delay,
    fields,
    hold,
    join,
    larger,
    later,
    step,
    tree,
)
from emulator.rtl.rom import read_rom, word_of
from emulator.rtl.rows import ACC_BITS
from emulator.rtl.weight_fabric import drain
from emulator.silicon.cost import GROUP_SCALE, fabric_pass, lora_latency, lora_turns
from emulator.silicon.cost import tree as tree_cycles
from emulator.silicon.spec import ChipSpec
from kernels.sram_matrix import LARGEST_ADDED

A_BITS, H_BITS, EXPONENT_BITS = 32, 17, 7


class LoraRtl(BlockRtl):
    """x int8[columns], G a cycle, and the sums of all rows -> one bus, as the fabric drains."""

    def __init__(self, block: Lora, spec: ChipSpec) -> None:
        super().__init__(spec)
        self.block, self.sides = block, block.side.matrices
        self.ranks = [side.rank for side in self.sides]
        self.rank = max(self.ranks)
        self.columns, self.feed = self.sides[0].columns, int(spec.fabric.lanes)
        self.rows = sum(side.rows for side in self.sides)
        self.pairs = block.outputs == ("gate", "up")
        self.turns = lora_turns([(s.rows, s.rank) for s in self.sides], int(spec.lora.macs))
        if sum(self.ranks) * self.feed > spec.lora.macs.value:
            raise ChipError("lora.macs below ranks * fabric lanes: no RTL, A falls behind")
        if int(spec.lora.scale) < 3:
            raise ChipError("lora.scale below 3 cycles: no RTL")
        feed, _ = fabric_pass(spec, self.columns, self.rows, block.bits)
        at = feed.take - 1 + feed.latency + GROUP_SCALE
        self.inputs = [
            Port("x", self.columns, 8, self.feed),
            scale_port("x_scale"),
            Port("sums", self.rows, ACC_BITS, at=at),
        ]
        self.outputs = [Port("_".join(block.outputs), self.rows, 32, self.lanes)]

    def build(self, m: Module) -> None:
        x, x_scale, sums = self.inputs
        valid, lanes = delay(m, x.valid, list(x), int(self.spec.fabric.wire))
        start: Value = sums.valid
        mantissas: list[Value] = []
        shifts: list[Value] = []
        if self.rank:
            ready, mantissas, shifts = self._a(m, valid, lanes)
            start = later(m, sums.valid, ready)
        cells = sum(side.cell_rows.size for side in self.sides)
        latency = lora_latency(self.spec, self.rank, cells)
        accs = [Signal(ACC_BITS, name=f"acc_{r}") for r in range(self.rows)]
        with m.If(sums.valid):
            m.d.sync += [acc.eq(value) for acc, value in zip(accs, sums, strict=True)]
        end = start
        if self.rank:
            turn, active, end = _counted(m, start, len(self.turns))
            self._b(m, active, turn, mantissas, shifts, accs, latency)
        if cells:
            begin = end if not self.rank else step(m, end, [])[0]
            rows, end = cell_sums(m, self.sides, valid, lanes, begin, self.spec, latency)
            self._add(m, *rows, accs)
        done, _ = delay(m, end, [], latency)
        matrices, at = [], 0
        for side in self.sides:
            matrices.append([acc.as_signed() for acc in accs[at : at + side.rows]])
            at += side.rows
        scales = [(side.row_mantissa, side.row_exponent) for side in self.sides]
        order = [(i, r) for i, side in enumerate(self.sides) for r in range(side.rows)]
        if self.pairs:
            order.sort(key=lambda place: place[1])
        drain(m, done, matrices, scales, x_scale, self.outputs[0], order, self.spec)

    def _a(
        self, m: Module, valid: Value, lanes: list[Value]
    ) -> tuple[Value, list[Value], list[Value]]:
        """Pulse; of each matrix the mantissas of A's sums, in one word, and their shift."""
        ranks = [row for side in self.sides for row in side.a]
        beats = self.columns // self.feed
        words = [
            word_of([int(v) for row in ranks for v in row[b * self.feed : (b + 1) * self.feed]], 8)
            for b in range(beats)
        ]
        size = len(ranks) * self.feed
        beat, _, _ = beat_counter(m, valid, beats)
        weights = fields(bind(m, read_rom(m, beat, words, 8 * size)), [8] * size, True)
        products = [w * lanes[i % self.feed] for i, w in enumerate(weights)]
        valid, products = step(m, valid, products)
        groups = [products[i : i + self.feed] for i in range(0, size, self.feed)]
        add = lambda a, b: a + b  # noqa: E731
        stages = tree_cycles(self.spec, self.feed)
        valid, found = tree(m, valid, groups, add, stages, sums=True)
        wide = [_fit(value, A_BITS) for value in found]
        valid, found = running(m, valid, wide, beats, lambda a, b: (a + b)[:A_BITS].as_signed())
        sums = hold(m, valid, found)
        mantissas, shifts, at, ready = [], [], 0, valid
        depth = tree_cycles(self.spec, self.rank)
        for rank in self.ranks:
            own, at = sums[at : at + rank], at + rank
            if not rank:
                mantissas.append(Const(0, H_BITS * self.rank))
                shifts.append(Const(0, 5))
                continue
            keys = [magnitude(m, value, A_BITS) for value in own]
            known, best = tree(m, valid, [keys], larger, depth)
            known, best = step(m, known, best)
            shift = bind(m, excess(m, bind(m, best[0][1:]))[:5])
            h = [_fit(round_shift(value, shift).as_signed(), H_BITS) for value in own]
            ready, kept = step(m, known, [*h, shift])
            zeros = [Const(0, H_BITS)] * (self.rank - rank)
            mantissas.append(bind(m, Cat(*(v.as_unsigned() for v in kept[:-1]), *zeros)))
            shifts.append(kept[-1])
        return ready, mantissas, shifts

    def _b(
        self, m: Module, active: Value, turn: Value, mantissas: list[Value],
        shifts: list[Value], accs: list[Signal], latency: int,
    ) -> None:  # fmt: skip
        """A turn's rows: products with the mantissas, their sum, its scale, added to the row's."""
        begins = [sum(side.rows for side in self.sides[:i]) for i in range(len(self.sides))]
        places = [
            [(i, row) for i, first, end in one for row in range(first, end)] for one in self.turns
        ]
        slots = max(len(one) for one in places)
        number = max((len(self.sides) - 1).bit_length(), 1)
        widths = [8 * self.rank, 16, EXPONENT_BITS, number]
        words = [
            word_of([self._slot(one, j, widths) for j in range(slots)], sum(widths))
            for one in places
        ]
        word = bind(m, read_rom(m, turn, words, sum(widths) * slots))
        every, every_shift = bind(m, join(mantissas)), bind(m, join(shifts))
        products: list[Value] = []
        rest: list[Value] = []
        for slot in fields(word, [sum(widths)] * slots):
            b, mantissa, exponent, matrix = fields(slot, widths)
            h = bind(m, every.word_select(matrix, H_BITS * self.rank))
            pairs = zip(
                fields(h, [H_BITS] * self.rank, True), fields(b, [8] * self.rank, True), strict=True
            )
            products += [v * w for v, w in pairs]
            places_right = exponent - every_shift.word_select(matrix, 5)
            rest += [mantissa, clip_width(places_right.as_signed(), EXPONENT_BITS + 1)]
        valid, kept = step(m, active, [*products, *rest, turn])
        products, rest = kept[: len(products)], kept[len(products) :]
        groups = [products[j * self.rank : (j + 1) * self.rank] for j in range(slots)]
        depth = tree_cycles(self.spec, self.rank)
        summed, dots = tree(m, valid, groups, lambda a, b: a + b, depth, sums=True)
        _, rest = delay(m, valid, rest, depth)
        staged: list[Value] = []
        for j, dot in enumerate(dots):
            staged += [dot * rest[2 * j], rest[2 * j + 1]]
        valid, staged = step(m, summed, [*staged, rest[-1]])
        pairs = zip(staged[:-1:2], staged[1:-1:2], strict=True)
        added = [_added(m, product, right) for product, right in pairs]
        valid, added = step(m, valid, [*added, staged[-1]])
        valid, added = delay(m, valid, added, latency - 1 - depth - 3)
        with m.If(valid), m.Switch(added[-1]):
            for t, one in enumerate(places):
                with m.Case(t):
                    for slot, (i, row) in zip(added, one, strict=False):
                        acc = accs[begins[i] + row]
                        m.d.sync += acc.eq(acc.as_signed() + slot)

    def _slot(self, turn: list[tuple[int, int]], slot: int, widths: list[int]) -> int:
        """What the SRAM holds for a slot of a turn: B's row, its scale, the matrix."""
        if slot >= len(turn):
            return 0
        i, row = turn[slot]
        side, word, at = self.sides[i], 0, 0
        parts = (word_of(side.b[:, row].tolist(), 8), side.mantissa[row], side.exponent[row], i)
        for part, width in zip(parts, widths, strict=True):
            word |= int(part) << at
            at += width
        return word

    def _add(self, m: Module, valid: Value, sums: list[Value], accs: list[Signal]) -> None:
        with m.If(valid):
            m.d.sync += [
                acc.eq(acc.as_signed() + value) for acc, value in zip(accs, sums, strict=True)
            ]


def _counted(m: Module, start: Value, turns: int) -> tuple[Value, Value, Value]:
    """Number of the turn, whether one is on, and whether it is the last, from the start on."""
    if turns == 1:
        return Const(0, 1), start, start
    count, busy = Signal(range(turns)), Signal()
    now, active = bind(m, Mux(start, 0, count)), bind(m, start | busy)
    last = bind(m, active & (now == turns - 1))
    with m.If(active):
        m.d.sync += [count.eq(now + 1), busy.eq(~last)]
    return now, active, last


def _added(m: Module, product: Value, right: Value) -> Value:
    """product * 2**-right, rounded, within what a row can take."""
    product, right = bind(m, product), bind(m, right)
    places = Mux(right > 63, 63, Mux(right < 0, 0, right))[:6]
    left = Mux(right < 0, -right, 0)[:5]
    wide = bind(m, Mux(right < 0, product << left, round_shift(product, places)).as_signed())
    low, high = -LARGEST_ADDED, LARGEST_ADDED
    return clip_width(Mux(wide > high, high, Mux(wide < low, low, wide)).as_signed(), ACC_BITS)


def _fit(value: Value, width: int) -> Value:
    """A signed number that is known to fit, at exactly so many bits."""
    value = value.as_signed()
    more = width - len(value)
    return Cat(value, *[value[-1]] * more).as_signed() if more > 0 else value[:width].as_signed()

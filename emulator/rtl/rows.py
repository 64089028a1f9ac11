"""Rows of a weight fabric: cells select products, a tree adds them up, groups are scaled.

A module of so many rows without their masks: codes and scales come in, so that all rows of a chip
are instances of one module. Three cycles behind the tree: the sum of a group, its scale, the sum
of all groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value

from emulator.rtl.pipeline import beat_counter, bind, fields, join, pairwise, spread, step

PRODUCT_BITS = 15  # int8 times a level of at most 64, signed
ACC_BITS = 46


class FabricRows(Elaboratable):
    """`rows` rows of `lanes` weights a cycle, of `bits` each; `parts`: levels of a cell of each.

    `products`: of each lane, of each of its cells, all levels. `codes` come with them, `scales` and
    `first` (of all groups) in the cycle behind a group's last inputs.
    """

    def __init__(
        self, rows: int, lanes: int, bits: int, parts: Sequence[int], beats: int, stages: int
    ) -> None:
        self.rows, self.lanes, self.bits, self.parts = rows, lanes, bits, list(parts)
        self.beats, self.stages = beats, stages  # beats of a group, cycles of the tree
        self.name = f"rows_{rows}_{lanes}_{bits}_{sum(parts)}_{beats}_{stages}"
        self.valid = Signal()
        self.products = Signal(lanes * sum(parts) * PRODUCT_BITS)
        self.codes = Signal(rows * lanes * bits)
        self.scales = Signal(8 * rows)
        self.first = Signal()
        self.sums = Signal(rows * ACC_BITS)

    @property
    def inputs(self) -> dict[str, Signal]:
        names = ("valid", "products", "codes", "scales", "first")
        return {name: getattr(self, name) for name in names}

    @property
    def outputs(self) -> dict[str, Signal]:
        return {"sums": self.sums}

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        valid, trees = spread(
            m, self.valid, self._selected(m), self.stages, self._levels(), sums=True
        )
        _, first, last = beat_counter(m, valid, self.beats)
        width = len(trees[0]) + self.beats.bit_length()
        done, sums = _summed(m, valid, first, last, trees, width)
        scales = fields(self.scales, [8] * self.rows, True)
        scaled = [s * scale for s, scale in zip(sums, scales, strict=True)]
        valid, kept = step(m, done, [*scaled, self.first])
        _, totals = _summed(m, valid, kept[-1], Const(1, 1), kept[:-1], ACC_BITS)
        m.d.comb += self.sums.eq(join(totals))
        return m

    def _selected(self, m: Module) -> list[Value]:
        each = sum(self.parts)
        buses: list[list[Value]] = []
        for lane in range(self.lanes):
            at = lane * each * PRODUCT_BITS
            buses.append([])
            for part in self.parts:
                size = part * PRODUCT_BITS
                buses[-1].append(bind(m, self.products[at : at + size]))
                at += size
        codes = fields(self.codes, [self.bits] * (self.rows * self.lanes))
        selected = []
        for i, code in enumerate(codes):
            bus = buses[i % self.lanes]
            index = [code] if len(bus) == 1 else [code[4:], code[:4]]
            selected += [
                part.word_select(number, PRODUCT_BITS).as_signed()
                for part, number in zip(bus, index, strict=True)
            ]
        return selected

    def _levels(self) -> list[Any]:
        level = pairwise(lambda a, b: a + b)
        size = self.lanes * len(self.parts)

        def layer(values: list[Value]) -> list[Value]:
            own = len(values) // self.rows
            return [v for r in range(self.rows) for v in level(values[r * own : (r + 1) * own])]

        return [layer] * (size - 1).bit_length()


def wide_product(value: Value) -> Value:
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

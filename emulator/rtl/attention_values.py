"""Attention behind the scores: maxima, probabilities, values and their sums, then int8."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib.memory import Memory

from emulator.blocks.attention import Attention
from emulator.rtl.arithmetic import (
    EXPONENT_BITS,
    reciprocal,
    requantised,
    round_shift,
    scaled,
)
from emulator.rtl.block_rtl import BlockRtl, constant_scale
from emulator.rtl.exponential import exp_line, exp_read, exp_shift
from emulator.rtl.kv_sram import KvMemory, stored_scales
from emulator.rtl.narrow import Parts, narrow
from emulator.rtl.pipeline import (
    bind,
    collect,
    delay,
    emit,
    fields,
    hold,
    join,
    larger,
    step,
    tree,
)
from emulator.silicon.cost import tree as tree_cycles
from kernels.reference import FRACTION, SUM_RECIPROCAL_BITS

LOWEST = -(2**31)  # a score that does not count
W_BITS, ACC_BITS, SUM_BITS = 16, 40, 29
INVERSE_BITS = 32


class AttentionValues(BlockRtl):
    """The half of attention that a head enters when all its scores are known."""

    block: Attention
    memory: KvMemory
    kv: int  # KV heads
    dim: int
    shared: int  # query heads of a KV head
    width: int  # of the answer
    p: int  # positions that a cycle reads
    side: int  # of these, those that the memory has
    rows: int
    layer: Signal

    def _ask(self, m: Module, names: tuple[str, ...], head: Value, row: Value) -> None:
        for name in names:
            address = self.layer * self.rows + row
            m.d.comb += [self.memory.address[name].eq(address), self.memory.head[name].eq(head)]

    def _running(
        self, m: Module, valid: Value, ends: Value, found: list[Value], op: Any
    ) -> tuple[Value, list[Value]]:
        """The register behind a tree over the rows of a head; a pulse behind its last one."""
        fresh = Signal(init=1)
        kept = [Signal(value.shape()) for value in found]
        done = Signal()
        m.d.sync += done.eq(valid & ends)
        with m.If(valid):
            m.d.sync += fresh.eq(ends)
            pairs = zip(kept, found, strict=True)
            m.d.sync += [r.eq(Mux(fresh, v, op(r, v))) for r, v in pairs]
        return done, list(kept)

    def _values(
        self, m: Module, scored: tuple[Value, list[Value], list[Value], list[Value], Value]
    ) -> None:
        """Maximum, probabilities, values and their sums of each head; the memory asked in time."""
        spec, n, g = self.spec, self.side, self.shared
        valid, scores, counts, least, scored_end = scored
        stages = tree_cycles(spec, self.p)
        groups = [scores[j * n : (j + 1) * n] for j in range(g)]
        top_valid, kept = tree(m, valid, groups, larger, stages)
        _, (top_end,) = delay(m, valid, [scored_end], stages)
        done, best = self._running(m, top_valid, top_end, kept, larger)
        _, least_tree = tree(m, valid, [least], _smaller, stages)
        _, smallest = self._running(m, top_valid, top_end, least_tree, _smaller)
        begin, best = done, hold(m, done, best)
        low = hold(m, done, smallest)[0]
        # A head's scores wait for its maximum: its rows, less the one that is there with it.
        late = self._wait(m, valid, [*scores, *counts], begin, scored_end, stages)
        self._weigh(m, begin, best, low, late)

    def _wait(
        self, m: Module, valid: Value, values: list[Value], begin: Value, ends: Value, stages: int
    ) -> tuple[Value, list[Value], Value]:
        """Rows of scores in a buffer, read from the pulse on: valid, values, a head's last row."""
        depth = 2 * self.rows + stages + 2
        depth = 1 << (depth - 1).bit_length()
        widths = [len(value) for value in values]
        signs = [value.shape().signed for value in values]
        memory = Memory(shape=sum(widths) + 1, depth=depth, init=[])
        m.submodules.scores = memory
        write, read = memory.write_port(), memory.read_port(domain="comb")
        put, get, busy = Signal(range(depth)), Signal(range(depth)), Signal()
        packed = [value.as_unsigned() for value in values]
        m.d.comb += [write.addr.eq(put), write.en.eq(valid), write.data.eq(join([*packed, ends]))]
        m.d.sync += put.eq(put + valid)
        active = bind(m, begin | busy)
        m.d.comb += read.addr.eq(get)
        found = fields(read.data, [*widths, 1])
        last = found[-1]
        with m.If(active):
            m.d.sync += [get.eq(get + 1), busy.eq(~last)]
        out = [v.as_signed() if s else v for v, s in zip(found[:-1], signs, strict=True)]
        return active, out, last

    def _weigh(
        self, m: Module, begin: Value, best: list[Value], low: Value,
        late: tuple[Value, list[Value], Value],
    ) -> None:  # fmt: skip
        spec, n, g = self.spec, self.side, self.shared
        valid, values, last = late
        scores, counts = values[: g * n], values[g * n :]
        entries: list[Value] = []
        for i, score in enumerate(scores):
            distance = bind(m, (best[i // n] - score)[:32])
            entries += exp_read(m, distance, counts[i % n])
        valid, kept = step(m, valid, [*entries, low, last])
        entries, low, last = kept[:-2], kept[-2], kept[-1]
        lines: list[Value] = []
        for pair, rest, whole in zip(entries[::3], entries[1::3], entries[2::3], strict=True):
            lines += [exp_line(pair, rest), whole]
        valid, kept = step(m, valid, [*lines, low, last])
        valid, kept = delay(m, valid, kept, int(spec.vector.table) - 2)
        lines, low, last = kept[:-2], kept[-2], kept[-1]
        p = [exp_shift(value, whole) for value, whole in zip(lines[::2], lines[1::2], strict=True)]
        valid, kept = step(m, valid, [*p, low, last])
        p, low, last = kept[:-2], kept[-2], kept[-1]
        scales = stored_scales(self.memory.data["v_scale"], n)
        weights: list[Value] = []
        for i, value in enumerate(p):
            mantissa, exponent = scales[i % n]
            shift = Mux(value == 0, 63, (16 + exponent - low))
            places = Mux(shift > 63, 63, shift)[:6]
            weights.append(round_shift(bind(m, value * mantissa), bind(m, places))[:W_BITS])
        valid, kept = step(m, valid, [*weights, *p, low, last])
        weights, p = kept[: g * n], kept[g * n : 2 * g * n]
        low, last = kept[-2], kept[-1]
        values = fields(self.memory.data["v"], [8] * (self.dim * n), True)
        products = [
            weights[j * n + i] * values[i * self.dim + d]
            for j in range(g) for d in range(self.dim) for i in range(n)
        ]  # fmt: skip
        valid, kept = step(m, valid, [*products, *p, low, last])
        valid, kept = delay(m, valid, kept, int(spec.vector.pipeline) - 3)
        size = g * self.dim * n
        products, p, low, last = kept[:size], kept[size:-2], kept[-2], kept[-1]
        self._finish(m, valid, products, p, low, last)

    def _ask_values(self, m: Module, active: Value, head: Value, ends: Value, start: Value) -> None:
        """Rows of V: their addresses go out behind the last key of a head, so many cycles before
        the scores reach the weights.
        """
        spec = self.spec
        score = 1 + tree_cycles(spec, self.dim) + int(spec.vector.pipeline) - 1
        until = score + tree_cycles(spec, self.p) + 1 + int(spec.vector.table) + 1
        pulse, (head,) = delay(m, bind(m, active & ends), [head], until)
        last, busy, row = bind(m, start // self.p), Signal(), Signal(range(max(self.rows, 2)))
        now = bind(m, Mux(pulse, 0, row))
        with m.If(pulse | busy):
            m.d.sync += [row.eq(now + 1), busy.eq(now != last)]
        self._ask(m, ("v_scale",), head, now)
        _, (late_head, late_row) = step(m, Const(1, 1), [head, now])
        self._ask(m, ("v",), late_head, late_row)

    def _finish(
        self, m: Module, valid: Value, products: list[Value], p: list[Value], low: Value,
        last: Value,
    ) -> None:  # fmt: skip
        """Sums of a head; behind the last one reciprocals, outputs and int8."""
        spec, n, g, dim = self.spec, self.side, self.shared, self.dim
        stages = tree_cycles(spec, self.p)
        groups = [products[i * n : (i + 1) * n] for i in range(g * dim)]
        plus = lambda a, b: a + b  # noqa: E731
        summed, accs = tree(m, valid, groups, plus, stages, sums=True)
        _, sums = tree(
            m, valid, [p[j * n : (j + 1) * n] for j in range(g)], plus, stages, sums=True
        )
        _, (last, low) = delay(m, valid, [last, low], stages)
        wide = [_wider(m, value, ACC_BITS, True) for value in accs]
        some = [_wider(m, value, SUM_BITS, False) for value in sums]
        add = lambda a, b: (a + b)[: len(a)].as_signed() if a.shape().signed else (a + b)[: len(a)]  # noqa: E731
        done, kept = self._running(m, summed, last, [*wide, *some], add)
        _, (low,) = step(m, summed, [low])
        flat = [*(v.as_unsigned() for v in kept[: g * dim]), *kept[g * dim :], low.as_unsigned()]
        whole, every = collect(m, done, flat, len(flat) * self.kv)
        size = len(flat)
        heads = [every[h * size : (h + 1) * size] for h in range(self.kv)]
        totals = [head[g * dim + j] for head in heads for j in range(g)]
        ready, inverse = reciprocal(
            m, whole, 1 << SUM_RECIPROCAL_BITS, totals, int(spec.vector.reciprocal), INVERSE_BITS
        )
        inverse = hold(m, ready, inverse)
        every = hold(m, whole, every)
        heads = [every[h * size : (h + 1) * size] for h in range(self.kv)]
        columns = [
            _join3(head[j * dim + d], inverse[h * g + j], head[-1])
            for h, head in enumerate(heads) for j in range(g) for d in range(dim)
        ]  # fmt: skip
        valid, lanes, _ = emit(m, ready, columns, self.lanes)
        staged: list[Value] = []
        for lane in lanes:
            acc, inv, low = fields(lane, [ACC_BITS, INVERSE_BITS, EXPONENT_BITS])
            staged += [
                acc.as_signed() * inv,
                low.as_signed() + (SUM_RECIPROCAL_BITS - FRACTION - 16),
            ]
        valid, staged = step(m, valid, staged)
        out = [
            requantised(m, product, shift)
            for product, shift in zip(staged[::2], staged[1::2], strict=True)
        ]
        valid, out = step(m, valid, out)
        valid, out = delay(m, valid, out, int(spec.vector.pipeline) - 2)
        parts = Parts(self.width, self.width, len(lanes))
        found = narrow(m, valid, out, parts, spec)
        self.outputs[0].drive(m, found.valid, found.x)
        exponent = bind(m, (FRACTION - found.shifts[0]).as_signed())
        constant = constant_scale(self.block.constant)
        ready, mantissa, e = scaled(m, found.done, found.peaks[0], exponent, constant)
        self.outputs[1].drive(m, ready, [mantissa, e])


def _smaller(a: Value, b: Value) -> Value:
    return Mux(a < b, a, b).as_signed()


def _wider(m: Module, value: Value, width: int, sign: bool) -> Value:
    wire = Signal(signed(width) if sign else unsigned(width))
    m.d.comb += wire.eq(value)
    return wire


def _join3(acc: Value, inverse: Value, low: Value) -> Value:
    return Cat(acc[:ACC_BITS], inverse[:INVERSE_BITS], low[:EXPONENT_BITS])

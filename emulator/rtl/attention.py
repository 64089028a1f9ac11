# amaranth: UnusedElaboratable=no
"""Attention: one KV head after the other, P positions a cycle; scores, then values, then int8."""

from __future__ import annotations

import math
from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value

from emulator.blocks.attention import Attention, head_positions
from emulator.errors import ChipError
from emulator.rtl.arithmetic import EXPONENT_BITS, requantised, scale_product
from emulator.rtl.attention_values import LOWEST, AttentionValues
from emulator.rtl.block_rtl import scale_port
from emulator.rtl.kv_sram import KvMemory, stored_scales
from emulator.rtl.pipeline import Port, bind, delay, fields, hold, step, tree
from emulator.silicon.cost import tree as tree_cycles
from emulator.silicon.spec import ChipSpec
from kernels.reference import SCORE_FRACTION


class AttentionRtl(AttentionValues):
    """q8 int8[heads, head_dim] and the memory -> x int8[heads * head_dim] and its scale.

    `memory` is what it reads; `context` positions of each layer have a place there, or those of a
    window: then a position lies in the place of the one that it pushes out of the window.
    """

    def __init__(self, block: Attention, spec: ChipSpec, context: int, layers: int = 1) -> None:
        super().__init__(spec)
        self.block, sram = block, block.sram
        self.kv, self.dim = sram.kv_heads, sram.head_dim
        self.shared = sram.heads // self.kv
        self.width = sram.heads * self.dim
        self.p = head_positions(sram, spec)
        self.window = min(block.window, context)
        self.side = min(self.p, self.window)  # positions a cycle that exist
        self.rows = math.ceil(self.window / self.p)
        if int(spec.kv_sram.latency) < 1:
            raise ChipError("kv_sram.latency of 0 cycles: no RTL for that")
        self.layer = Signal(range(max(layers, 2)))  # whose keys and values are read
        latency = int(spec.kv_sram.latency)
        self.memory = KvMemory(self.kv, self.dim, layers * self.rows, self.side, latency)
        self.inputs = [
            Port("q8", self.width, 8),
            scale_port("q8_scale", sram.heads),
            Port("start", 1, 32, sign=False),
        ]
        self.outputs = [Port("x", self.width, 8, self.lanes), scale_port("x_scale")]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = self.memory
        self.build(m)
        return m

    def build(self, m: Module) -> None:
        q8, _, start = self.inputs
        full = start.data >= self.window  # then every place holds a position that counts
        last = bind(m, Mux(full, self.window - 1, start.data))
        active, head, row, last_row = self._sweep(m, q8.valid, last)
        self._ask_values(m, active, head, last_row, last)
        self._values(m, self._scores(m, active, head, row, last_row, last))

    def _sweep(self, m: Module, begin: Value, start: Value) -> tuple[Value, Value, Value, Value]:
        """Which head's row is read: from the cycle in which q8 is there, without a gap."""
        busy, head, row = Signal(), Signal(range(max(self.kv, 2))), Signal(range(max(self.rows, 2)))
        rows = bind(m, start // self.p)  # the last row that holds a position
        active, now_head, now_row = Signal(), Signal(head.shape()), Signal(row.shape())
        ends = Signal()
        m.d.comb += [
            active.eq(begin | busy),
            now_head.eq(Mux(begin, 0, head)),
            now_row.eq(Mux(begin, 0, row)),
            ends.eq(now_row == rows),
        ]
        with m.If(active):
            m.d.sync += [
                row.eq(Mux(ends, 0, now_row + 1)),
                head.eq(now_head + ends),
                busy.eq(~(ends & (now_head == self.kv - 1))),
            ]
        return active, now_head, now_row, ends

    def _scores(
        self, m: Module, active: Value, head: Value, row: Value, ends: Value, end: Value
    ) -> tuple[Value, list[Value], list[Value], Value, Value]:
        """Scores in log2 units, which positions count, the least exponent of V, row's end."""
        spec, n, dim, g = self.spec, self.side, self.dim, self.shared
        q8, q8_scale, _ = self.inputs
        self._ask(m, ("k", "k_scale", "v_least"), head, row)
        latency = int(spec.kv_sram.latency)
        valid, (head, row, ends) = delay(m, active, [head, row, ends], latency)
        q = fields(hold(m, q8.valid, [q8.data])[0], [8 * dim * g] * self.kv)
        q_scales = hold(m, q8_scale.valid, [q8_scale.data])[0]
        own_q = self._of_head(m, head, q)
        own_scale = self._of_head(m, head, fields(q_scales, [64 * g] * self.kv))
        keys = fields(self.memory.data["k"], [8] * (dim * n), True)
        queries = fields(own_q, [8] * (dim * g), True)
        products = [
            keys[p * dim + d] * queries[j * dim + d]
            for j in range(g) for p in range(n) for d in range(dim)
        ]  # fmt: skip
        k_scales = stored_scales(self.memory.data["k_scale"], n)
        pairs = fields(own_scale, [32] * 2 * g)
        factors = [
            value
            for j in range(g)
            for p in range(n)
            for value in scale_product(
                k_scales[p],
                (pairs[2 * j][:16], pairs[2 * j + 1][:EXPONENT_BITS].as_signed()),
                SCORE_FRACTION,
            )
        ]
        counts = [row * self.p + p <= end for p in range(n)]
        least = [
            Mux(count, scale[1], 2 ** (EXPONENT_BITS - 1) - 1).as_signed()
            for count, scale in zip(
                counts, stored_scales(self.memory.data["v_least"], n), strict=True
            )
        ]
        after, products = step(m, valid, products)
        groups = [products[i * dim : (i + 1) * dim] for i in range(g * n)]
        stages = tree_cycles(spec, dim)
        summed, dots = tree(m, after, groups, lambda a, b: a + b, stages, sums=True)
        side = [*factors, *counts, *least, ends]
        _, side = delay(m, valid, side, 1 + stages)
        size = 2 * g * n
        factors, counts, least, ends = (
            side[:size],
            side[size : size + n],
            side[size + n : -1],
            side[-1],
        )
        both = []
        for i, dot in enumerate(dots):
            both += [dot * factors[2 * i], factors[2 * i + 1]]
        valid, both = step(m, summed, [*both, *counts, *least, ends])
        products, rest = both[:size], both[size:]
        counts = rest[:n]
        scores = []
        for i in range(g * n):
            score = requantised(m, products[2 * i], products[2 * i + 1])
            scores.append(Mux(counts[i % n], score, LOWEST).as_signed())
        valid, kept = step(m, valid, [*scores, *rest])
        valid, kept = delay(m, valid, kept, int(spec.vector.pipeline) - 3)
        scores, rest = kept[: g * n], kept[g * n :]
        return valid, scores, rest[:n], rest[n:-1], rest[-1]

    def _of_head(self, m: Module, head: Value, words: list[Value]) -> Value:
        chosen = Signal(len(words[0]))
        with m.Switch(head):
            for i, word in enumerate(words):
                with m.Case(i):
                    m.d.comb += chosen.eq(word)
        return chosen

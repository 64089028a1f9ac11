"""KV SRAM: narrowing on the way in, and the memory itself, with a read port and its latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib.memory import Memory

from emulator.blocks.kv_sram import KvSram
from emulator.rtl.arithmetic import EXPONENT_BITS, scaled
from emulator.rtl.block_rtl import BlockRtl, constant_scale, scale_port
from emulator.rtl.narrow import Narrowed, Parts, narrow, rotate_narrow
from emulator.rtl.pipeline import Port, beat_counter, bind, collect, fields, hold, join, step
from emulator.rtl.rom import word_of
from emulator.silicon.spec import ChipSpec
from kernels.reference import FRACTION

SCALE_WIDTH = 16 + EXPONENT_BITS


class KvSramRtl(BlockRtl):
    """q_k int32, the heads of q and then of k, and v -> q8; k and v as they go to the memory."""

    def __init__(self, block: KvSram, spec: ChipSpec) -> None:
        super().__init__(spec)
        self.block = block
        heads, kv, dim = block.heads, block.kv_heads, block.head_dim
        self.inputs = [
            Port("q_k", (heads + kv) * dim, 32, self.lanes),
            Port("v", kv * dim, 32, self.lanes),
        ]
        self.outputs = [
            Port("q8", heads * dim, 8),
            scale_port("q8_scale", heads),
            Port("sram_k", kv * dim, 8),
            scale_port("sram_k_scale", kv),
            Port("sram_v", kv * dim, 8),
            scale_port("sram_v_scale", kv),
        ]

    def hand_over(self, m: Module, written: Mapping[str, Signal]) -> None:
        """Put the outputs for the memory on the signals that it stores."""
        for name in ("k", "v"):
            scales = list(self.port(f"sram_{name}_scale"))
            m.d.comb += [
                written[name].eq(self.port(f"sram_{name}").data),
                written[f"{name}_scale"].eq(packed_scales(scales)),
            ]

    def build(self, m: Module) -> None:
        block, (q_k, v) = self.block, self.inputs
        dim, heads = block.head_dim, block.heads
        cq, ck, cv = (constant_scale(scale) for scale in block.constants)
        parts = Parts(q_k.values, dim, q_k.lanes).checked()
        found = rotate_narrow(m, q_k.valid, list(q_k), dim, parts, self.spec)
        done, x, scales = self._whole(m, found, parts, heads, cq, ck)
        own = Parts(v.values, dim, v.lanes).checked()
        v_found = narrow(m, v.valid, list(v), own, self.spec)
        v_done, v_x, v_scales = self._whole(m, v_found, own, v.values // dim, cv, cv)
        v_x = hold(m, v_done, v_x)
        q8, q8_scale, k, k_scale, v8, v_scale = self.outputs
        q8.drive(m, done, x[: heads * dim])
        q8_scale.drive(m, done, scales[: 2 * heads])
        k.drive(m, done, x[heads * dim :])
        k_scale.drive(m, done, scales[2 * heads :])
        v8.drive(m, done, v_x)
        v_scale.drive(m, done, v_scales)

    def _whole(
        self, m: Module, found: Narrowed, parts: Parts, heads: int,
        constant: Sequence[Value], other: Sequence[Value],
    ) -> tuple[Value, list[Value], list[Value]]:  # fmt: skip
        """All int8 values at their last beat, and all scales: those of `heads` parts by `constant`,
        the others by `other`.
        """
        count = parts.values // parts.over
        beats = -(-count // parts.in_beat)
        beat, _, _ = beat_counter(m, found.done, beats)
        scales: list[Value] = []
        ready: Value = Const(0, 1)
        for i, (peak, shift) in enumerate(zip(found.peaks, found.shifts, strict=True)):
            first = beat * parts.in_beat + i < heads
            chosen = (
                Mux(first, constant[0], other[0])[:16],
                Mux(first, constant[1], other[1])[:EXPONENT_BITS].as_signed(),
            )
            _, later = step(m, found.done, chosen)  # `scaled` multiplies in its second cycle
            exponent = bind(m, (FRACTION - shift).as_signed())
            ready, mantissa, e = scaled(m, found.done, peak, exponent, later)
            scales += [mantissa.as_unsigned(), e.as_signed()]
        wide = [_as_pair(m, value) for value in scales]
        scales_done, every = collect(m, ready, wide, 2 * count)
        every = hold(m, scales_done, every)
        done, x = collect(m, found.valid, found.x, parts.values)
        return done, x, every


def _as_pair(m: Module, value: Value) -> Value:
    wire = Signal(signed(32))
    m.d.comb += wire.eq(value)
    return wire


class KvMemory(Elaboratable):
    """Keys and values with their scales, of each KV head a memory, `lanes` positions a row.

    A row that is read is there `latency` cycles later; what is written is read in the same cycle.
    V's exponents have a read port of their own, for they are read with the keys.
    """

    def __init__(self, kv_heads: int, head_dim: int, rows: int, lanes: int, latency: int) -> None:
        self.kv_heads, self.head_dim, self.latency = kv_heads, head_dim, latency
        self.rows, self.lanes = rows, lanes
        self.widths = {
            "k": 8 * head_dim, "k_scale": SCALE_WIDTH, "v": 8 * head_dim, "v_scale": SCALE_WIDTH,
            "v_least": SCALE_WIDTH,
        }  # fmt: skip
        self.address = {
            name: Signal(range(max(rows, 2)), name=f"{name}_row") for name in self.widths
        }
        self.head = {
            name: Signal(range(max(kv_heads, 2)), name=f"{name}_head") for name in self.widths
        }
        self.data = {
            name: Signal(lanes * width, name=f"{name}_data") for name, width in self.widths.items()
        }
        self.write = Signal()
        self.position = Signal(range(max(rows * lanes, 2)))
        self.written = {
            name: Signal(kv_heads * width, name=f"{name}_written")
            for name, width in self.widths.items()
            if name != "v_least"
        }
        self.start: dict[str, np.ndarray] = {}

    def filled(self, arrays: dict[str, np.ndarray]) -> KvMemory:
        """With k, v [positions, kv_heads, head_dim] and their scales [.., 2] in it, from row 0."""
        self.start = arrays
        return self

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name in self.written:
            readers = [name, "v_least"] if name == "v_scale" else [name]
            width = self.widths[name]
            ports: dict[str, list[Value]] = {reader: [] for reader in readers}
            for head in range(self.kv_heads):
                memory = Memory(
                    shape=self.lanes * width, depth=self.rows, init=self._words(name, head)
                )
                m.submodules[f"{name}_{head}"] = memory
                port = memory.write_port(granularity=width)
                row, lane = self._place()
                m.d.comb += [
                    port.addr.eq(row),
                    port.en.eq(Mux(self.write, 1 << lane, 0)),
                    port.data.eq(
                        Cat(*[self.written[name][head * width : (head + 1) * width]] * self.lanes)
                    ),
                ]
                for reader in readers:
                    read = memory.read_port(transparent_for=[port])
                    m.d.comb += read.addr.eq(self.address[reader])
                    ports[reader].append(read.data)
            for reader in readers:
                self._answer(m, reader, ports[reader])
        return m

    def _answer(self, m: Module, name: str, heads: list[Value]) -> None:
        """The head that was asked for, so many cycles ago."""
        head: Value = self.head[name]
        _, (head,) = step(m, Const(1, 1), [head])
        word: Value = Signal(len(heads[0]))
        with m.Switch(head):
            for i, data in enumerate(heads):
                with m.Case(i):
                    m.d.comb += word.eq(data)
        for _ in range(self.latency - 1):
            later = Signal(len(word))
            m.d.sync += later.eq(word)
            word = later
        m.d.comb += self.data[name].eq(word)

    def _place(self) -> tuple[Value, Value]:
        """Row and lane of the position that is written."""
        shift = (self.lanes - 1).bit_length()
        if self.lanes == 1 << shift:
            return self.position >> shift, self.position[:shift] if shift else Const(0, 1)
        return (self.position // self.lanes), (self.position % self.lanes)

    def _words(self, name: str, head: int) -> list[int]:
        if name not in self.start:
            return []
        array = self.start[name][:, head]
        words = []
        for row in range(self.rows):
            some = array[row * self.lanes : (row + 1) * self.lanes]
            if name in ("k", "v"):
                words.append(word_of(some.ravel().tolist(), 8))
            else:
                pairs = [(int(a) & 0xFFFF) | (int(b) & 0xFFF) << 16 for a, b in some]
                words.append(word_of(pairs, SCALE_WIDTH))
        return words


def packed_scales(lanes: Sequence[Value]) -> Value:
    """Pairs of 32 bits as the memory holds them."""
    pairs = zip(lanes[::2], lanes[1::2], strict=True)
    return join([Cat(a[:16], b[:EXPONENT_BITS]) for a, b in pairs])


def stored_scales(word: Value, count: int) -> list[tuple[Value, Value]]:
    """The inverse, of `count` positions."""
    return [(part[:16], part[16:].as_signed()) for part in fields(word, [SCALE_WIDTH] * count)]

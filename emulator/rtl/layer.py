# amaranth: UnusedElaboratable=no
"""One layer: its blocks joined, beat by beat, on a vector unit of any width that cuts no head.

Where the fabric's rows drain in several beats v comes first, since scores wait for all of q and k.
The residual stream is kept beat by beat until a half of the layer adds to it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from emulator.blocks.attention import Attention
from emulator.blocks.block import Block
from emulator.blocks.kv_sram import KvSram
from emulator.blocks.other_gates import GeGlu, ReLu2Glu
from emulator.blocks.residual_add import ResidualAdd
from emulator.blocks.rms_norm import RmsNorm
from emulator.blocks.rope import Rope
from emulator.blocks.swiglu import SwiGlu
from emulator.blocks.weight_fabric import WeightFabric
from emulator.errors import ChipError
from emulator.rtl.attention import AttentionRtl
from emulator.rtl.block_rtl import BlockRtl
from emulator.rtl.gate import GateRtl
from emulator.rtl.kv_sram import KvSramRtl
from emulator.rtl.pipeline import Port, beat_counter, bind, delay, drive
from emulator.rtl.residual_add import ResidualAddRtl
from emulator.rtl.rms_norm import RmsNormRtl
from emulator.rtl.rope import RopeRtl
from emulator.rtl.weight_fabric import WeightFabricRtl
from emulator.silicon.spec import ChipSpec

JOINED = (
    Attention, GeGlu, KvSram, ReLu2Glu, ResidualAdd, RmsNorm, Rope, SwiGlu, WeightFabric,
)  # fmt: skip
UNITS = ("norm", "qkv", "rope", "kv", "attention", "o", "add", "gate_up", "gate", "down")


class LayerRtl(BlockRtl):
    """residual at position `start` -> `halves`, the stream behind each half; `residual_out`.

    Raises ChipError where a vector does not fill its beats, or a block has no place here.
    """

    def __init__(self, blocks: list[Block], spec: ChipSpec, context: int) -> None:
        super().__init__(spec)
        strange = [b.name for b in blocks if type(b) not in JOINED]
        if strange:
            raise ChipError(f"block {strange[0]} has no place in a joined layer's RTL yet")
        found: dict[str, Any] = {b.name: b for b in blocks}
        qkv = found["fabric_qkv"]
        self.qkv = WeightFabricRtl(
            replace(qkv, matrices={name: qkv.matrices[name] for name in ("v", "q", "k")}), spec
        )
        self.o = WeightFabricRtl(found["fabric_o"], spec)
        self.gate_up = WeightFabricRtl(found["fabric_gate_up"], spec)
        self.gate_up.halves = True
        self.down = WeightFabricRtl(found["fabric_down"], spec)
        self.norm, self.rope = RmsNormRtl(found["rms_norm"], spec), RopeRtl(found["rope"], spec)
        self.kv = KvSramRtl(found["kv_sram"], spec)
        self.attention = AttentionRtl(found["attention"], spec, context)
        if self.attention.window < context:
            raise ChipError("a window of attention has no place in a joined layer's RTL yet")
        held = {name: array[:context].copy() for name, array in found["attention"].memory.items()}
        self.attention.memory.filled(held)  # as it is before this token
        self.add = ResidualAddRtl(found["residual_add"], spec)
        gate = next(b for b in blocks if isinstance(b, SwiGlu | GeGlu | ReLu2Glu))
        self.gate = GateRtl(gate, spec, shared=True)
        hidden = found["residual_add"].hidden
        self.inputs = [Port("residual", hidden, 32, self.lanes), Port("start", 1, 32, sign=False)]
        self.outputs = [
            Port("halves", 2 * hidden, 32, self.lanes),
            Port("residual_out", hidden, 32, self.lanes),
        ]
        self.instances = True
        sizes = [hidden, self.qkv.rows, self.rope.block.values, self.gate_up.rows, gate.ffn]
        if any(size % self.lanes for size in sizes):
            raise ChipError(f"{self.lanes} vector lanes are not filled by vectors of {sizes}")

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for name in UNITS:
            m.submodules[name] = getattr(self, name)
        self.build(m)
        return m

    def build(self, m: Module) -> None:
        add, norm = self.add, self.norm
        residual, start = self.inputs
        total = add.port("sum")
        half = self._half(m, residual, total)
        first = bind(m, total.valid & ~half)
        valid = bind(m, residual.valid | first)
        stream = bind(m, Mux(residual.valid, residual.data, total.data))
        drive(m, norm.port("residual"), valid, stream)
        self._keep(m, valid, stream)
        self._attend(m, half, start.data)
        self._feed_forward(m, half)
        drive(m, self.outputs[0], total.valid, total.data)
        ended, (data,) = delay(
            m, bind(m, total.valid & half), [total.data], int(self.spec.sequencer.layer)
        )
        drive(m, self.outputs[1], ended, data)

    def _half(self, m: Module, residual: Port, total: Port) -> Signal:
        """Whether the stream is behind the layer's first half."""
        half = Signal()
        _, _, last = beat_counter(m, total.valid, total.beats)
        with m.If(residual.valid):
            m.d.sync += half.eq(0)
        with m.Elif(total.valid & last):
            m.d.sync += half.eq(1)
        return half

    def _keep(self, m: Module, valid: Value, stream: Value) -> None:
        """The residual stream, until what is added to it comes."""
        port, delta = self.add.port("residual"), self.add.port("delta")
        kept = Signal(port.beats * len(port.data))
        number, _, _ = beat_counter(m, valid, port.beats)
        with m.If(valid):
            m.d.sync += kept.word_select(number, len(port.data)).eq(stream)
        wanted, _, _ = beat_counter(m, delta.valid, port.beats)
        drive(m, port, Const(1, 1), kept.word_select(wanted, len(port.data)))

    def _feed(self, m: Module, x: Port, scale: Port, on: Value, fabric: WeightFabricRtl) -> None:
        """int8 values G a cycle into a fabric, from the cycle in which their first beat comes."""
        size, feed = len(x.data), 8 * fabric.feed
        kept = Signal(x.beats * size)
        arrives = bind(m, x.valid & on)
        number, begins, _ = beat_counter(m, arrives, x.beats)
        with m.If(arrives):
            m.d.sync += kept.word_select(number, size).eq(x.data)
        pulse = bind(m, arrives & begins)
        beats = fabric.port("x").beats
        count, busy = Signal(range(max(beats, 2))), Signal()
        now, active = bind(m, Mux(pulse, 0, count)), bind(m, pulse | busy)
        with m.If(active):
            m.d.sync += [count.eq(now + 1), busy.eq(now != beats - 1)]
        word = Mux(pulse, x.data[:feed], kept.word_select(now, feed))
        drive(m, fabric.port("x"), active, word)
        drive(m, fabric.port("x_scale"), scale.valid, scale.data)

    def _attend(self, m: Module, half: Value, start: Value) -> None:
        norm, kv, attention = self.norm, self.kv, self.attention
        self._feed(m, norm.port("x"), norm.port("x_scale"), bind(m, ~half), self.qkv)
        bus, v, q_k = self.qkv.outputs[0], kv.port("v"), self.rope.port("q_k")
        beat, _, _ = beat_counter(m, bus.valid, bus.beats)
        of_v = bind(m, beat < v.beats)
        drive(m, v, bind(m, bus.valid & of_v), bus.data)
        drive(m, q_k, bind(m, bus.valid & ~of_v), bus.data)
        drive(m, self.rope.port("start"), Const(1, 1), start)
        turned = self.rope.outputs[0]
        drive(m, kv.port("q_k"), turned.valid, turned.data)
        for name in ("q8", "q8_scale"):
            drive(m, attention.port(name), kv.port(name).valid, kv.port(name).data)
        drive(m, attention.port("start"), Const(1, 1), start)
        memory = attention.memory
        m.d.comb += [memory.write.eq(kv.port("q8").valid), memory.position.eq(start)]
        kv.hand_over(m, memory.written)
        self._feed(m, attention.port("x"), attention.port("x_scale"), Const(1, 1), self.o)

    def _feed_forward(self, m: Module, half: Value) -> None:
        norm, gate = self.norm, self.gate
        self._feed(m, norm.port("x"), norm.port("x_scale"), half, self.gate_up)
        bus = self.gate_up.outputs[0]
        lanes = list(bus)
        n = len(lanes) // 2
        for name, own in (("gate", lanes[:n]), ("up", lanes[n:])):
            drive(m, gate.port(name), bus.valid, Cat(*own))
        self._feed(m, gate.port("x"), gate.port("x_scale"), Const(1, 1), self.down)
        one, other = self.o.outputs[0], self.down.outputs[0]
        data = bind(m, Mux(other.valid, other.data, one.data))
        drive(m, self.add.port("delta"), bind(m, one.valid | other.valid), data)

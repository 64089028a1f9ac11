# amaranth: UnusedElaboratable=no
"""The whole chip: the blocks joined, a sequencer, the KV SRAM of all layers, and a greedy sampler.

Every layer owns its fabrics; the vector unit's blocks and attention serve all layers in turn. The
chip is given a prompt and runs by itself: a prompt token's end starts the next one, and behind the
last one the best token does.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from emulator.blocks.attention import Attention
from emulator.blocks.embedding import Embedding
from emulator.blocks.kv_sram import KvSram
from emulator.blocks.lm_head import LastToken
from emulator.blocks.other_gates import GeGlu, ReLu2Glu
from emulator.blocks.residual_add import ResidualAdd
from emulator.blocks.rms_norm import FinalGain, RmsNorm
from emulator.blocks.rope import Rope
from emulator.blocks.swiglu import SwiGlu
from emulator.blocks.top_k import TopK
from emulator.blocks.weight_fabric import WeightFabric
from emulator.chip import Stage
from emulator.errors import ChipError
from emulator.rtl.attention import AttentionRtl
from emulator.rtl.block_rtl import BlockRtl
from emulator.rtl.embedding import EmbeddingRtl
from emulator.rtl.gate import GateRtl
from emulator.rtl.kv_sram import KvSramRtl
from emulator.rtl.pipeline import Port, bind, delay, drive, emit, hold
from emulator.rtl.residual_add import ResidualAddRtl
from emulator.rtl.rms_norm import FinalGainRtl, RmsNormRtl
from emulator.rtl.rope import RopeRtl
from emulator.rtl.top_k import TopKRtl
from emulator.rtl.weight_fabric import WeightFabricRtl
from emulator.silicon.spec import ChipSpec

JOINED = (
    Attention, Embedding, FinalGain, GeGlu, KvSram, LastToken, ReLu2Glu, ResidualAdd, RmsNorm, Rope,
    SwiGlu, TopK, WeightFabric,
)  # fmt: skip


class ChipRtl(BlockRtl):
    """prompt: token ids -> a token whenever `top` is valid, until `context` positions are full.

    Raises ChipError for a chip whose vector unit is narrower than a signal: its blocks have RTL,
    their joining has not.
    """

    def __init__(self, stages: list[Stage], spec: ChipSpec, context: int, prompt: int) -> None:
        super().__init__(spec)
        self.context = context
        self.stages = stages
        blocks = {b.name: b for stage in stages for b in stage.blocks}
        strange = [b.name for b in blocks.values() if not isinstance(b, JOINED)]
        if strange:
            raise ChipError(f"block {strange[0]} has no place in the joined chip's RTL yet")
        layers = [stage for stage in stages if stage.layer is not None]
        self.layers = len(layers)
        self.embedding = EmbeddingRtl(_one(blocks, Embedding), spec)
        norms = [b for b in layers[0].blocks if isinstance(b, RmsNorm)]
        self.norm = RmsNormRtl(norms[0], spec)
        self.rope = RopeRtl(_one(blocks, Rope), spec)
        self.kv = KvSramRtl(_one(blocks, KvSram), spec)
        self.attention = AttentionRtl(_one(blocks, Attention), spec, context, self.layers)
        self.add = ResidualAddRtl(_one(blocks, ResidualAdd), spec)
        self.gate = GateRtl(_one(blocks, (SwiGlu, GeGlu, ReLu2Glu)), spec)
        head = {b.name: b for b in stages[-1].blocks}
        gain = head.get("final_norm")
        last = next(b for b in stages[-1].blocks if isinstance(b, RmsNorm | FinalGain))
        self.final: BlockRtl = (
            FinalGainRtl(gain, spec) if isinstance(gain, FinalGain) else RmsNormRtl(last, spec)  # type: ignore[arg-type]
        )
        self.head = WeightFabricRtl(_one(head, WeightFabric), spec)
        self.top_k = TopKRtl(_one(blocks, TopK), spec)
        self.fabrics = {
            name: [WeightFabricRtl(_named(stage, name), spec) for stage in layers]
            for name in ("fabric_qkv", "fabric_o", "fabric_gate_up", "fabric_down")
        }
        self.prompt = Port("prompt", prompt, 32, sign=False)
        # what goes in next, at its first cycle; the residual stream behind each half of a layer
        self.token = Port("token", context + 1, 32, 1, sign=False)
        hidden = self.add.port("sum").lanes
        self.residual = Port("residual", 2 * self.layers * context * hidden, 32, hidden)
        self.inputs, self.outputs = [self.prompt], [self.token, self.residual]
        wide = [p for b in self._units() for p in (*b.inputs, *b.outputs)]
        if any(p.beats > 1 and p.name != "x" for p in wide):
            raise ChipError(
                f"{int(spec.vector.lanes)} vector lanes: a chip in RTL has a lane for every value"
            )

    def _units(self) -> list[BlockRtl]:
        shared: list[BlockRtl] = [
            self.embedding, self.norm, self.rope, self.kv, self.attention, self.add, self.gate,
            self.final, self.head, self.top_k,
        ]  # fmt: skip
        return [*shared, *(f for fabrics in self.fabrics.values() for f in fabrics)]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for name in (
            "embedding",
            "norm",
            "rope",
            "kv",
            "attention",
            "add",
            "gate",
            "final",
            "head",
            "top_k",
        ):
            m.submodules[name] = getattr(self, name)
        for name, fabrics in self.fabrics.items():
            for i, fabric in enumerate(fabrics):
                m.submodules[f"{name}_{i}"] = fabric
        layer, half = Signal(range(max(self.layers, 2))), Signal()
        position = Signal(range(self.context + 1))
        add = self.add.port("sum")
        drive(m, self.residual, add.valid, add.data)
        done, whole = self._barrier(m, add, half)  # of a layer
        last = layer == self.layers - 1
        with_head = position >= self.prompt.values - 1
        self._sequence(m, position, bind(m, done & last & ~with_head))
        inward = self._merge(m, self.embedding.port("residual"), bind(m, done & ~last), whole)
        with m.If(done):
            m.d.sync += layer.eq(Mux(last, 0, layer + 1))
        first_half = bind(m, add.valid & ~half)
        with m.If(inward[0]):
            m.d.sync += half.eq(0)
        with m.Elif(add.valid):
            m.d.sync += half.eq(1)
        start = bind(m, inward[0] | first_half)
        stream = bind(m, Mux(inward[0], inward[1], add.data))
        drive(m, self.norm.port("residual"), start, stream)
        drive(m, self.add.port("residual"), Const(1, 1), hold(m, start, [stream])[0])
        self._attend(m, layer, half, position)
        self._feed_forward(m, layer, half)
        drive(m, self.final.port("residual"), bind(m, done & last & with_head), whole)
        self._finish(m)
        return m

    def _merge(self, m: Module, embedded: Port, back: Value, whole: Value) -> tuple[Value, Value]:
        return bind(m, embedded.valid | back), bind(m, Mux(embedded.valid, embedded.data, whole))

    def _barrier(self, m: Module, add: Port, half: Value) -> tuple[Value, Value]:
        """A layer's end: the register between two layers."""
        valid, (data,) = delay(
            m, bind(m, add.valid & half), [add.data], int(self.spec.sequencer.layer)
        )
        return bind(m, valid), bind(m, data)

    def _sequence(self, m: Module, position: Value, skipped: Value) -> None:
        """Positions and tokens: a token starts in the cycle in which the one before has ended."""
        top = self.top_k.port("top")
        sampled = top.data[:32]
        ended = bind(m, skipped | top.valid)
        following = bind(m, Mux(self.prompt.valid, 0, position + 1))
        with m.If(ended | self.prompt.valid):
            m.d.sync += position.eq(following)
        full = following >= self.context
        go = bind(m, self.prompt.valid | (ended & ~full))
        asked = hold(m, self.prompt.valid, [self.prompt.data])[0]
        of_prompt = asked.word_select(
            following[: max((self.prompt.values - 1).bit_length(), 1)], 32
        )
        token = bind(m, Mux(following < self.prompt.values, of_prompt, sampled))
        drive(m, self.embedding.port("tokens"), go, token)
        m.d.comb += [self.token.data.eq(Mux(go, token, sampled)), self.token.valid.eq(go | ended)]

    def _feed(
        self, m: Module, x: Port, scale: Port, fabrics: list[WeightFabricRtl], layer: Value,
        on: Value,
    ) -> tuple[Value, Value]:  # fmt: skip
        """int8 values G a cycle into the fabric of the layer; its result."""
        steady = hold(m, bind(m, x.valid & on), [x.data])[0]
        values = [steady[8 * i : 8 * (i + 1)] for i in range(x.values)]
        valid, lanes, _ = emit(m, bind(m, x.valid & on), values, fabrics[0].feed)
        valid, word = bind(m, valid), bind(m, Cat(*lanes))
        result: Value = Const(0, 1)
        data = Signal(len(fabrics[0].outputs[0].data))
        for i, fabric in enumerate(fabrics):
            drive(m, fabric.port("x"), bind(m, valid & (layer == i)), word)
            drive(m, fabric.port("x_scale"), scale.valid, scale.data)
            out = fabric.outputs[0]
            result = result | out.valid
            with m.If(out.valid):
                m.d.comb += data.eq(out.data)
        return bind(m, result), data

    def _attend(self, m: Module, layer: Value, half: Value, position: Value) -> None:
        norm, kv, attention = self.norm, self.kv, self.attention
        fabrics = self.fabrics["fabric_qkv"]
        valid, word = self._feed(
            m, norm.port("x"), norm.port("x_scale"), fabrics, layer, bind(m, ~half)
        )
        q_k = self.rope.port("q_k")
        size = len(q_k.data)
        drive(m, q_k, valid, word[:size])
        drive(m, kv.port("v"), valid, word[size:])
        drive(m, self.rope.port("start"), Const(1, 1), position)
        turned = self.rope.outputs[0]
        drive(m, kv.port("q_k"), turned.valid, turned.data)
        for name in ("q8", "q8_scale"):
            drive(m, attention.port(name), kv.port(name).valid, kv.port(name).data)
        drive(m, attention.port("start"), Const(1, 1), position)
        memory = attention.memory
        m.d.comb += [
            attention.layer.eq(layer),
            memory.write.eq(kv.port("q8").valid),
            memory.position.eq(layer * (attention.rows * attention.side) + position),
        ]
        kv.hand_over(m, memory.written)
        valid, word = self._feed(
            m, attention.port("x"), attention.port("x_scale"), self.fabrics["fabric_o"], layer,
            Const(1, 1),
        )  # fmt: skip
        self.delta = valid, word

    def _feed_forward(self, m: Module, layer: Value, half: Value) -> None:
        norm, gate = self.norm, self.gate
        fabrics = self.fabrics["fabric_gate_up"]
        valid, word = self._feed(m, norm.port("x"), norm.port("x_scale"), fabrics, layer, half)
        rows = [word[32 * i : 32 * (i + 1)] for i in range(len(word) // 32)]
        for name, lanes in (("gate", rows[::2]), ("up", rows[1::2])):
            drive(m, gate.port(name), valid, Cat(*lanes))
        valid, word = self._feed(
            m, gate.port("x"), gate.port("x_scale"), self.fabrics["fabric_down"], layer,
            Const(1, 1),
        )  # fmt: skip
        other_valid, other = self.delta
        delta = bind(m, Mux(valid, word, other))
        drive(m, self.add.port("delta"), bind(m, valid | other_valid), delta)

    def _finish(self, m: Module) -> None:
        final = self.final
        valid, word = self._feed(
            m, final.port("x"), final.port("x_scale"), [self.head], Const(0, 1), Const(1, 1)
        )
        drive(m, self.top_k.port("logits"), valid, word)


def _one(blocks: dict[str, Any], kind: type | tuple[type, ...]) -> Any:
    return next(block for block in blocks.values() if isinstance(block, kind))


def _named(stage: Stage, name: str) -> Any:
    return next(block for block in stage.blocks if block.name == name)

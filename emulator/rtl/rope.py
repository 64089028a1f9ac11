"""RoPE: two products a value, their sum, a clamp; cosine and sine from the mask of the position."""

from __future__ import annotations

from amaranth.hdl import Module

from emulator.blocks.rope import Rope
from emulator.errors import ChipError
from emulator.rtl.arithmetic import round_shift_by, saturate
from emulator.rtl.block_rtl import BlockRtl
from emulator.rtl.pipeline import Port, delay, fields, step
from emulator.rtl.rom import read_rom, word_of
from emulator.silicon.spec import ChipSpec
from kernels.reference import Q1_14


class RopeRtl(BlockRtl):
    """q_k: int32[values], the heads of q and then of k -> the same, turned."""

    def __init__(self, block: Rope, spec: ChipSpec) -> None:
        super().__init__(spec)
        self.block = block
        self.half = block.cosine.shape[1]
        if min(self.lanes, block.values) % (2 * self.half):
            raise ChipError(f"{self.lanes} vector lanes cut heads of {2 * self.half}: no RTL")
        self.inputs = [Port("q_k", block.values, 32, self.lanes), Port("start", 1, 32, sign=False)]
        self.outputs = [Port("q_k_turned", block.values, 32, self.lanes)]

    def build(self, m: Module) -> None:
        block, half = self.block, self.half
        q_k, start = self.inputs
        lanes = list(q_k)
        words = [
            word_of(c, 16) | word_of(s, 16) << 16 * half
            for c, s in zip(block.cosine.tolist(), block.sine.tolist(), strict=True)
        ]
        table = fields(read_rom(m, start.data, words, 32 * half), [16] * 2 * half, True)
        cosine, sine = table[:half], table[half:]
        products = []
        for i, lane in enumerate(lanes):
            j, lower = i % half, i // half % 2 == 0
            other = lanes[i + half] if lower else lanes[i - half]
            products += [lane * cosine[j], other * sine[j]]
        valid, products = step(m, q_k.valid, products)
        sums = []
        for i, (a, b) in enumerate(zip(products[::2], products[1::2], strict=True)):
            sums.append(round_shift_by(a - b if i // half % 2 == 0 else a + b, Q1_14))
        valid, sums = step(m, valid, sums)
        valid, turned = step(m, valid, [saturate(value) for value in sums])
        valid, turned = delay(m, valid, turned, int(self.spec.vector.pipeline) - 3)
        self.outputs[0].drive(m, valid, turned)

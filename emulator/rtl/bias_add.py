"""Biases of a fabric pass: an adder and a clamp a lane, one register, the bias from its mask."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Module

from emulator.blocks.bias_add import BiasAdd
from emulator.rtl.arithmetic import saturate
from emulator.rtl.block_rtl import BlockRtl
from emulator.rtl.pipeline import Port, beat_counter, fields, step
from emulator.rtl.rom import read_rom, word_of
from emulator.silicon.spec import ChipSpec


class BiasAddRtl(BlockRtl):
    """The bus that the fabric drains to, int32[rows] -> the same, in the same order."""

    def __init__(self, block: BiasAdd, spec: ChipSpec) -> None:
        super().__init__(spec)
        self.pairs = block.reads == ("gate", "up")  # as the fabric of equally high matrices
        rows = block.bias.size
        self.bias = block.bias.reshape(2, -1).T.ravel() if self.pairs else block.bias
        name = "_".join(block.reads)
        self.inputs = [Port(name, rows, 32, self.lanes)]
        self.outputs = [Port(f"biased_{name}", rows, 32, self.lanes)]

    def build(self, m: Module) -> None:
        rows, n = self.inputs[0], self.inputs[0].lanes
        beat, _, _ = beat_counter(m, rows.valid, rows.beats)
        padded = np.pad(self.bias, (0, rows.beats * n - rows.values)).reshape(rows.beats, n)
        words = [word_of(some, 32) for some in padded.tolist()]
        own = fields(read_rom(m, beat, words, 32 * n), [32] * n, True)
        sums = [saturate(a + b) for a, b in zip(rows, own, strict=True)]
        valid, lanes = step(m, rows.valid, sums)
        self.outputs[0].drive(m, valid, lanes)

"""Residual add: an adder and a clamp a lane, one register."""

from __future__ import annotations

from amaranth.hdl import Module

from emulator.blocks.residual_add import ResidualAdd
from emulator.rtl.arithmetic import saturate
from emulator.rtl.block_rtl import BlockRtl
from emulator.rtl.pipeline import Port, step
from emulator.silicon.spec import ChipSpec


class ResidualAddRtl(BlockRtl):
    """residual, delta int32[hidden] -> residual."""

    def __init__(self, block: ResidualAdd, spec: ChipSpec) -> None:
        super().__init__(spec)
        self.inputs = [Port(name, block.hidden, 32, self.lanes) for name in block.reads]
        self.outputs = [Port("sum", block.hidden, 32, self.lanes)]

    def build(self, m: Module) -> None:
        residual, delta = self.inputs
        sums = [saturate(a + b) for a, b in zip(residual, delta, strict=True)]
        valid, lanes = step(m, delta.valid, sums)
        self.outputs[0].drive(m, valid, lanes)

"""SwiGLU: SiLU(gate) * up, then R4, the Hadamard transform that makes int8 enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

from emulator.blocks.block import Block
from emulator.blocks.wires import Int32, Wires
from emulator.fixedpoint import power_of_two_block, scale_of
from emulator.silicon.cost import Cost, rotate_narrow, stream
from emulator.silicon.spec import ChipSpec
from kernels.reference import INT8_MAX


@dataclass(frozen=True, slots=True)
class SwiGlu(Block):
    """gate, up: Q15.16 int32[T, ffn] -> x int8[T, ffn], the down projection's input."""

    name: ClassVar[str] = "swiglu"
    reads: ClassVar[tuple[str, ...]] = ("gate", "up")
    writes: ClassVar[tuple[str, ...]] = ("x", "x_scale")

    ffn: int
    block: int
    constant: Int32  # 1 / sqrt(block) / 127

    @classmethod
    def of(cls, ffn: int) -> SwiGlu:
        block = power_of_two_block(ffn)
        return cls(ffn, block, scale_of(1 / math.sqrt(block) / INT8_MAX))

    def run(self, ops: ModuleType, wires: Wires) -> None:
        wires.x, wires.x_scale = ops.swiglu_narrow(wires.gate, wires.up, self.block, self.constant)

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """Table and product as they come, then R4 and int8, each of which needs a maximum."""
        silu = stream(spec, self.ffn, int(spec.vector.table) + int(spec.vector.pipeline))
        return Cost((silu, *rotate_narrow(spec, self.ffn, self.block)))

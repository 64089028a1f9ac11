"""Other gates than Llama's: GELU by a table, ReLU^2 by a square; then R4 as behind SwiGLU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

from emulator.blocks.block import Block
from emulator.blocks.swiglu import SwiGlu
from emulator.blocks.wires import Int32, Wires
from emulator.config.model import GELU, RELU2, SILU
from emulator.fixedpoint import power_of_two_block, scale_of
from emulator.silicon.cost import Cost, rotate_narrow, stream
from emulator.silicon.spec import ChipSpec
from kernels.reference import INT8_MAX
from kernels.tables import gelu_table, gelu_tanh_table


@dataclass(frozen=True, slots=True)
class GeGlu(Block):
    """gate, up: Q15.16 int32[T, ffn] -> x int8[T, ffn], the down projection's input."""

    name: ClassVar[str] = "geglu"
    reads: ClassVar[tuple[str, ...]] = ("gate", "up")
    writes: ClassVar[tuple[str, ...]] = ("x", "x_scale")

    ffn: int
    block: int
    table: Int32  # [257] Q15.16: the function at -8, -8 + 1/16, .. +8
    constant: Int32  # 1 / sqrt(block) / 127

    def run(self, ops: ModuleType, wires: Wires) -> None:
        wires.x, wires.x_scale = ops.geglu_narrow(
            wires.gate, wires.up, self.table, self.block, self.constant
        )

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """As SwiGLU's: another table."""
        gelu = stream(spec, self.ffn, int(spec.vector.table) + int(spec.vector.pipeline))
        return Cost((gelu, *rotate_narrow(spec, self.ffn, self.block)))


@dataclass(frozen=True, slots=True)
class ReLu2Glu(Block):
    """gate, up: Q15.16 int32[T, ffn] -> x int8[T, ffn], the down projection's input."""

    name: ClassVar[str] = "relu2_glu"
    reads: ClassVar[tuple[str, ...]] = ("gate", "up")
    writes: ClassVar[tuple[str, ...]] = ("x", "x_scale")

    ffn: int
    block: int
    constant: Int32  # 1 / sqrt(block) / 127

    def run(self, ops: ModuleType, wires: Wires) -> None:
        wires.x, wires.x_scale = ops.relu2_narrow(wires.gate, wires.up, self.block, self.constant)

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """A square and a product as they come, then R4 and int8."""
        square = stream(spec, self.ffn)
        return Cost((square, stream(spec, self.ffn), *rotate_narrow(spec, self.ffn, self.block)))


def gate_block(activation: str, ffn: int) -> Block:
    """The block of an activation, one of `emulator.config.model.ACTIVATIONS`."""
    if activation == SILU:
        return SwiGlu.of(ffn)
    block = power_of_two_block(ffn)
    constant = scale_of(1 / math.sqrt(block) / INT8_MAX)
    if activation == RELU2:
        return ReLu2Glu(ffn, block, constant)
    table = gelu_table() if activation == GELU else gelu_tanh_table()
    return GeGlu(ffn, block, table, constant)

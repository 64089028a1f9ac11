"""Biases: one value a row is added to what the weight fabric gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType

from emulator.blocks.block import Block
from emulator.blocks.wires import Int32, Wires
from emulator.silicon.cost import Cost, stream
from emulator.silicon.spec import ChipSpec

WIRES = {"qkv": ("q", "k", "v"), "o": ("delta",), "gate_up": ("gate", "up"), "down": ("delta",)}


@dataclass(frozen=True, slots=True)
class BiasAdd(Block):
    """The outputs of one fabric pass, Q15.16 -> the same, plus their biases, saturating."""

    name: str = field()  # "bias_" and the pass
    bias: Int32  # [rows of all its matrices] Q15.16

    @classmethod
    def of(cls, fabric_pass: str, bias: Int32) -> BiasAdd:
        return cls(f"bias_{fabric_pass}", bias)

    @property
    def reads(self) -> tuple[str, ...]:
        return WIRES[self.name.removeprefix("bias_")]

    @property
    def writes(self) -> tuple[str, ...]:
        return self.reads

    def run(self, ops: ModuleType, wires: Wires) -> None:
        begin = 0
        for wire in self.writes:
            values = getattr(wires, wire)
            rows = values.reshape(len(values), -1)
            end = begin + rows.shape[1]
            setattr(wires, wire, ops.bias_add(rows, self.bias[begin:end]).reshape(values.shape))
            begin = end

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """One adder stage behind the fabric's drain, as the residual's."""
        values = self.bias.size
        return Cost((stream(spec, values, latency=1),), rom_bits=32 * values)

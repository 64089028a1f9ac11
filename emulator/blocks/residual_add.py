"""Residual add: a sublayer's output joins the stream, saturating at int32."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

from emulator.blocks.block import Block
from emulator.blocks.wires import Wires
from emulator.silicon.cost import Cost, stream
from emulator.silicon.spec import ChipSpec


@dataclass(frozen=True, slots=True)
class ResidualAdd(Block):
    """residual: Q15.16 int32[T, hidden] -> the same, plus delta."""

    name: ClassVar[str] = "residual_add"
    reads: ClassVar[tuple[str, ...]] = ("residual", "delta")
    writes: ClassVar[tuple[str, ...]] = ("residual",)

    hidden: int

    def run(self, ops: ModuleType, wires: Wires) -> None:
        wires.residual = ops.residual_add(wires.residual, wires.delta)

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """One adder stage behind the fabric's drain; the norm starts on the first sums."""
        return Cost((stream(spec, self.hidden, latency=1),))

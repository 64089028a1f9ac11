"""Embedding: a token's row of the table enters the residual stream."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from emulator.blocks.wires import Wires
from emulator.silicon.cost import Cost, Phase
from emulator.silicon.spec import ChipSpec
from kernels.rom.pack import PackedMatrix


@dataclass(frozen=True, slots=True)
class Embedding:
    table: PackedMatrix  # [vocabulary, hidden]
    name: str = "embedding"

    def run(self, ops: ModuleType, wires: Wires) -> None:
        wires.residual = ops.lookup(self.table, wires.tokens)

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        bits = self.table.columns * self.table.bits
        return Cost((Phase(1, int(spec.embedding.read), unit="embedding"),), rom_bits=bits)

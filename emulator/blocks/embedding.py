"""Embedding: a token's row of the table enters the residual stream."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import ClassVar

import numpy as np

from emulator.blocks.block import Block
from emulator.blocks.plain_matrix import chosen_rows
from emulator.blocks.wires import Int64, Wires
from emulator.silicon.cost import Cost, Phase, passes
from emulator.silicon.spec import ChipSpec
from kernels.rom.pack import PackedMatrix


def _all_rows() -> Int64:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Embedding(Block):
    """tokens int64[T] -> residual: Q15.16 int32[T, hidden]."""

    name: ClassVar[str] = "embedding"
    reads: ClassVar[tuple[str, ...]] = ("tokens",)
    writes: ClassVar[tuple[str, ...]] = ("residual",)

    table: PackedMatrix  # [vocabulary, hidden]
    row_numbers: Int64 = field(default_factory=_all_rows)  # tokens of its rows, rising; none: all

    def run(self, ops: ModuleType, wires: Wires) -> None:
        rows = wires.tokens
        if self.row_numbers.size:
            rows = np.searchsorted(self.row_numbers, rows)
        wires.residual = ops.lookup(self.table, rows)

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """A row is read at once and enters the stream V values a cycle."""
        columns = self.table.columns
        read = Phase(passes(spec, columns), int(spec.embedding.read), columns, unit="embedding")
        return Cost((read,), rom_bits=columns * self.table.bits)

    @property
    def matrices_by_name(self) -> dict[str, PackedMatrix]:
        return {"table": self.table}

    def with_matrices(self, matrices: dict[str, PackedMatrix]) -> Embedding:
        return replace(self, table=matrices["table"])

    def for_pass(self, wires: Wires) -> Embedding:
        """The rows that the tokens look up: the table is large, the rows are few."""
        numbers = np.unique(wires.tokens)
        return replace(self, table=chosen_rows(self.table, numbers), row_numbers=numbers)

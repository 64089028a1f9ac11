"""Weight fabric: every input is multiplied by the alphabet once, and each ROM cell selects.

Matrices that read the same input (q, k, v; gate, up) share one pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.blocks.block import Block
from emulator.blocks.wires import Wires
from emulator.silicon.cost import GROUP_SCALE, Cost, Phase, fabric_pass
from emulator.silicon.spec import ChipSpec
from kernels.rom.pack import TILE_ROWS, PackedMatrix


@dataclass(frozen=True, slots=True)
class WeightFabric(Block):
    """x int8[T, columns] -> one Q15.16 int32[T, rows] signal a matrix."""

    reads: ClassVar[tuple[str, ...]] = ("x", "x_scale")

    name: str = field()
    matrices: dict[str, PackedMatrix]  # output wire -> matrix
    head_dim: int = 0  # > 0: outputs are split into heads, [T, heads, head_dim]

    def run(self, ops: ModuleType, wires: Wires) -> None:
        outputs = ops.fabric(tuple(self.matrices.values()), wires.x, wires.x_scale)
        for wire, out in zip(self.matrices, outputs, strict=True):
            if self.head_dim:
                setattr(wires, wire, out.reshape(out.shape[0], -1, self.head_dim))
            else:
                setattr(wires, wire, out)

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """Matrices side by side take the same inputs, so the widest codes set the time.

        Their rows share the drain: the first row's scale begins when the last input is in.
        """
        matrices = self.matrices.values()
        widest = max(matrices, key=lambda m: m.bits)
        rows = sum(m.rows for m in matrices)
        feed, drain = fabric_pass(spec, widest.columns, rows, widest.bits)
        return Cost(
            (feed, drain),
            macs=sum(m.rows * m.columns for m in matrices),
            rom_bits=sum(m.stored_bits for m in matrices),
            row_cycles=rows * feed.take,
            wire_bits=8 * widest.columns + 32 * rows,
        )

    @property
    def writes(self) -> tuple[str, ...]:
        return tuple(self.matrices)

    @property
    def matrices_by_name(self) -> dict[str, PackedMatrix]:
        return self.matrices

    def with_matrices(self, matrices: dict[str, PackedMatrix]) -> WeightFabric:
        return replace(self, matrices=matrices)

    @property
    def sizes(self) -> dict[str, int]:
        return {"columns": next(iter(self.matrices.values())).columns}

    def cut(self, rows: int) -> Block:
        """In whole heads, where outputs are heads; rows know nothing of each other."""
        unit = max(self.head_dim, TILE_ROWS)
        return Block.cut(self, max(rows // unit, 1) * unit)

    def cut_output(self, wire: str, values: NDArray[Any]) -> NDArray[Any]:
        rows = self.matrices[wire].rows
        return values[:, : rows // self.head_dim] if self.head_dim else values[:, :rows]


@dataclass(frozen=True, slots=True)
class FabricSums(WeightFabric):
    """The same without row scales: an adapter adds to the sums first (`emulator.blocks.lora`)."""

    uncut: tuple[int, ...] = ()  # rows of each matrix before a cut

    def run(self, ops: ModuleType, wires: Wires) -> None:
        wires.sums = ops.fabric_sums(tuple(self.matrices.values()), wires.x)

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """The rows keep their sums, groups scaled, and drain when the adapter has added its own."""
        whole = WeightFabric.cost(self, spec, context)
        return replace(whole, phases=(whole.phases[0], Phase(1, GROUP_SCALE, unit="")))

    @property
    def writes(self) -> tuple[str, ...]:
        return ("sums",)

    @property
    def sizes(self) -> dict[str, int]:
        matrices = self.matrices.values()
        return {
            "columns": next(iter(matrices)).columns,
            "rows": sum(m.rows for m in matrices),
        }

    def cut(self, rows: int) -> Block:
        part = WeightFabric.cut(self, rows)
        assert isinstance(part, FabricSums)
        return replace(part, uncut=tuple(m.rows for m in self.matrices.values()))

    def cut_output(self, wire: str, values: NDArray[Any]) -> NDArray[Any]:
        """The first sums of each matrix."""
        kept, begin = [], 0
        for rows, matrix in zip(self.uncut, self.matrices.values(), strict=True):
            kept.append(values[:, begin : begin + matrix.rows])
            begin += rows
        return np.concatenate(kept, axis=1)

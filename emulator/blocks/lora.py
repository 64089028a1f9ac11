"""LoRA: what the adapter SRAM adds to a fabric's sums, before they are requantised.

`x A` runs beside the fabric, input by input; B waits for the last of them, so it comes behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import ClassVar

import numpy as np

from emulator.blocks.block import Block
from emulator.blocks.wires import Arrays, Wires
from emulator.silicon.cost import Cost, late_drain, lora_pass
from emulator.silicon.spec import ChipSpec
from kernels.sram_matrix import SramMatrix, SramPass

PARTS = (
    *("a", "b", "mantissa", "exponent", "cell_rows", "cell_columns", "cell_values"),
    *("row_mantissa", "row_exponent"),
)


@dataclass(frozen=True, slots=True)
class Lora(Block):
    """x int8[T, columns] and sums int64[T, rows of all] -> one Q15.16 signal a matrix."""

    reads: ClassVar[tuple[str, ...]] = ("x", "x_scale", "sums")

    name: str = field()
    side: SramPass
    outputs: tuple[str, ...]  # wires, one a matrix
    head_dim: int = 0  # > 0: outputs are split into heads, [T, heads, head_dim]
    bits: int = 4  # of the fabric's widest code: how long its sums take

    @classmethod
    def of(
        cls, name: str, sides: Mapping[str, SramMatrix], head_dim: int = 0, bits: int = 4
    ) -> Lora:
        """By output wire, in the fabric's order."""
        return cls(name, SramPass(tuple(sides.values())), tuple(sides), head_dim, bits)

    def run(self, ops: ModuleType, wires: Wires) -> None:
        outputs = ops.lora(self.side, wires.x, wires.x_scale, wires.sums)
        for wire, out in zip(self.outputs, outputs, strict=True):
            if self.head_dim:
                setattr(wires, wire, out.reshape(out.shape[0], -1, self.head_dim))
            else:
                setattr(wires, wire, out)

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """B's products behind the fabric's last sum, then the rows drain.

        A costs time only where it falls behind.
        """
        sides = self.side.matrices
        ranks = sum(m.rank for m in sides)
        work = sum(m.rank * m.rows for m in sides)
        cells = sum(m.cell_rows.size for m in sides)
        columns, rows = sides[0].columns, sum(m.rows for m in sides)
        added = lora_pass(spec, columns, self.bits, [(m.rows, m.rank) for m in sides], cells)
        return Cost(
            (*added, late_drain(spec, rows)),
            macs=ranks * columns + work + cells,
            sram_bits=sum(m.stored_bits for m in sides),
            wire_bits=8 * columns,
        )

    @property
    def writes(self) -> tuple[str, ...]:
        return self.outputs

    @property
    def sizes(self) -> dict[str, int]:
        rows = sum(m.rows for m in self.side.matrices)
        return {"columns": self.side.matrices[0].columns, "rows": rows}

    @property
    def rom(self) -> Arrays:
        """What is in the adapter SRAM, with the masks' row scales, by output wire."""
        return {
            f"{wire}.{part}": getattr(side, part)
            for wire, side in zip(self.outputs, self.side.matrices, strict=True)
            for part in PARTS
        }

    def rebuilt(self, parameters: dict[str, int], rom: Arrays) -> Block:
        sides = {
            wire: SramMatrix(
                **{part: np.ascontiguousarray(rom[f"{wire}.{part}"]) for part in PARTS}
            )
            for wire in self.outputs
        }
        return replace(
            Lora.of(self.name, sides, parameters["head_dim"], parameters["bits"]),
            outputs=tuple(sides),
        )

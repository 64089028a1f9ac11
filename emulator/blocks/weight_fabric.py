"""Weight fabric: every input is multiplied by the alphabet once, and each ROM cell selects.

Matrices that read the same input (q, k, v; gate, up) share one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from emulator.blocks.wires import Wires
from emulator.silicon.cost import Cost, fabric_pass
from emulator.silicon.spec import ChipSpec
from kernels.rom.pack import PackedMatrix


@dataclass(frozen=True, slots=True)
class WeightFabric:
    """x int8[T, columns] -> one Q15.16 int32[T, rows] signal a matrix."""

    name: str
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
        """Matrices side by side take the same inputs, so the widest codes set the time."""
        matrices = self.matrices.values()
        widest = max(matrices, key=lambda m: m.bits)
        feed = fabric_pass(spec, widest.columns, widest.bits)
        rows = sum(m.rows for m in matrices)
        return Cost(
            (feed,),
            macs=sum(m.rows * m.columns for m in matrices),
            rom_bits=sum(m.stored_bits for m in matrices),
            row_cycles=rows * feed.take,
            wire_bits=8 * widest.columns + 32 * rows,
        )

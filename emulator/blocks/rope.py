"""RoPE: q and k turn by their position."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.blocks.block import Block
from emulator.blocks.wires import Wires
from emulator.silicon.cost import Cost, stream
from emulator.silicon.spec import ChipSpec


@dataclass(frozen=True, slots=True)
class Rope(Block):
    """q, k: Q15.16 int32[T, heads, head_dim] -> the same, turned."""

    name: ClassVar[str] = "rope"
    reads: ClassVar[tuple[str, ...]] = ("q", "k")
    writes: ClassVar[tuple[str, ...]] = ("q", "k")

    cosine: NDArray[np.int16]  # [context, n] Q1.14; the first 2 n values of a head turn
    sine: NDArray[np.int16]
    values: int  # of q and k together that turn

    def run(self, ops: ModuleType, wires: Wires) -> None:
        wires.q = ops.rope(wires.q, wires.positions, self.cosine, self.sine)
        wires.k = ops.rope(wires.k, wires.positions, self.cosine, self.sine)

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        table_bits = 16 * 2 * self.cosine.shape[1]
        return Cost((stream(spec, self.values),), rom_bits=table_bits)

    def for_pass(self, wires: Wires) -> Rope:
        """Tables of the positions up to the last one of the pass."""
        end = int(wires.positions.max()) + 1
        return replace(self, cosine=self.cosine[:end], sine=self.sine[:end])

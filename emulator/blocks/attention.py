"""Attention over the KV SRAM: scores in log2 units, table softmax, values, narrowed to int8."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType

from emulator.blocks.kv_sram import SCALE_BITS, KvSram
from emulator.blocks.wires import Int32, Wires
from emulator.fixedpoint import scale_of
from emulator.silicon.cost import Cost, narrow, tree
from emulator.silicon.spec import ChipSpec
from kernels.reference import INT8_MAX


@dataclass(frozen=True, slots=True)
class Attention:
    """q8 and the KV SRAM -> x int8[T, heads * head_dim], the output projection's input."""

    sram: KvSram
    constant: Int32  # 1 / 127
    name: str = "attention"

    @classmethod
    def of(cls, sram: KvSram) -> Attention:
        return cls(sram, scale_of(1 / INT8_MAX))

    def run(self, ops: ModuleType, wires: Wires) -> None:
        sram = self.sram
        mixed = ops.attention(
            wires.q8, wires.q8_scale, sram.k, sram.k_scale, sram.v, sram.v_scale, wires.start
        )
        wires.x, wires.x_scale = ops.narrow(mixed, self.constant)

    def cost(self, chip: ChipSpec, context: int) -> Cost:
        """Scores as they are read, a maximum, then probabilities and values in a second pass."""
        sram = self.sram
        per_cycle = chip.attention.positions.value
        sweep = math.ceil(context / per_cycle)
        scores = sweep + tree(sram.head_dim) + tree(per_cycle)
        values = sweep + int(chip.attention.softmax_table.value) + tree(per_cycle)
        kv_heads, width = sram.k.shape[1], sram.heads * sram.head_dim
        finish = int(chip.vector.divide.value) + narrow(chip, width)
        return Cost(
            cycles=scores + values + finish,
            macs=2 * context * width,
            sram_bits=2 * context * kv_heads * (8 * sram.head_dim + SCALE_BITS),
        )

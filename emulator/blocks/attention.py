"""Attention over the KV SRAM: scores in log2 units, table softmax, values, narrowed to int8."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import ModuleType
from typing import ClassVar

from emulator.blocks.block import Block
from emulator.blocks.kv_sram import KvSram
from emulator.blocks.wires import Arrays, Int32, Wires
from emulator.fixedpoint import scale_of
from emulator.silicon.cost import WHOLE_VECTOR, Cost, Phase, narrow, stream, tree
from emulator.silicon.spec import ChipSpec
from kernels.reference import ALL_POSITIONS, INT8_MAX


def head_positions(sram: KvSram, spec: ChipSpec) -> int:
    """Positions of one KV head that a cycle reads: as SRAM and multipliers allow, in whole ones."""
    by_reads = 8 * spec.kv_sram.bandwidth.value / sram.position_bits(spec)
    by_macs = spec.attention.macs.value / (sram.heads * sram.head_dim)
    return max(1, int(min(by_reads, by_macs) * sram.kv_heads))


@dataclass(frozen=True, slots=True)
class Attention(Block):
    """q8 and the KV SRAM -> x int8[T, heads * head_dim], the output projection's input."""

    name: ClassVar[str] = "attention"
    reads: ClassVar[tuple[str, ...]] = ("q8", "q8_scale")
    writes: ClassVar[tuple[str, ...]] = ("x", "x_scale")

    sram: KvSram
    constant: Int32  # 1 / 127
    window: int = ALL_POSITIONS  # that a token attends to, its own included

    @classmethod
    def of(cls, sram: KvSram, window: int | None = None) -> Attention:
        """`window`: None for all positions."""
        return cls(sram, scale_of(1 / INT8_MAX), window or ALL_POSITIONS)

    def run(self, ops: ModuleType, wires: Wires) -> None:
        sram = self.sram
        held = sram.k, sram.k_scale, sram.v, sram.v_scale
        places = wires.positions, wires.rows
        mixed = ops.attention(wires.q8, wires.q8_scale, *held, *places, self.window)
        wires.x, wires.x_scale = ops.narrow(mixed, self.constant)

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """All scores of a head before its maximum, then its values: a KV head reads its values
        while the next one reads its keys, both in whole cycles. The SRAM or the multipliers set
        the pace. The first address goes out when q is whole; the values' latency hides behind
        the softmax table.
        """
        sram, context = self.sram, min(context, self.window)
        width = sram.heads * sram.head_dim
        position_bits = sram.position_bits(spec)
        at_once = head_positions(sram, spec)
        sweep = sram.kv_heads * math.ceil(context / at_once)  # one head whole, then the next
        side_by_side = tree(spec, at_once)
        pipeline = int(spec.vector.pipeline)
        read = int(spec.kv_sram.latency)
        scores = read + tree(spec, sram.head_dim) + pipeline + side_by_side + 1
        values = int(spec.vector.table) + pipeline + side_by_side + 1  # read in time for the table
        return Cost(
            phases=(
                WHOLE_VECTOR,
                Phase(sweep, scores, sram.kv_heads, unit="keys"),
                Phase(sweep, values, sram.kv_heads, unit="values"),
                WHOLE_VECTOR,  # all heads together from here on
                stream(spec, sram.heads, int(spec.vector.reciprocal)),  # of the sum of p
                stream(spec, width),
                *narrow(spec, width),
            ),
            macs=2 * context * width,
            sram_bits=2 * context * position_bits,
        )

    @property
    def memory(self) -> Arrays:
        return self.sram.memory

    def with_memory(self, arrays: Arrays) -> Attention:
        return replace(self, sram=self.sram.with_memory(arrays))

    @property
    def parameters(self) -> dict[str, int]:
        """The SRAM's heads and head_dim, and the window where there is one."""
        own = {"window": self.window} if self.window != ALL_POSITIONS else {}
        return self.sram.parameters | own

    def rebuilt(self, parameters: dict[str, int], rom: Arrays) -> Attention:
        heads, head_dim = parameters["heads"], parameters["head_dim"]
        sram = replace(self.sram, heads=heads, head_dim=head_dim)
        window = parameters.get("window", ALL_POSITIONS)
        return replace(self, sram=sram, constant=rom["constant"], window=window)

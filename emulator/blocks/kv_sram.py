"""KV SRAM: int8 keys and values with a scale per position and head.

On the way in, k (and q, which meets it) goes through R3, a Hadamard transform of each head, so
that 8 bits suffice; v is already rotated by its matrix. A head that is no power of two is rotated
in blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from emulator.blocks.block import Block
from emulator.blocks.wires import Arrays, Int8, Int32, Wires
from emulator.config import LlamaConfig
from emulator.errors import UsageError
from emulator.fixedpoint import LOG2_E, power_of_two_block, scale_of
from emulator.host import installed_bytes
from emulator.silicon.cost import Cost, rotate_narrow
from emulator.silicon.spec import ChipSpec
from kernels.reference import INT8_MAX

SCALE_BITS = 24  # of one stored scale: mantissa and exponent


LARGE_BYTES = 4 << 20  # NumPy asks for large pages from here on, but not for `zeros`


def _zeros(shape: tuple[int, int, int], sequences: int) -> Int8:
    """One head's positions lie far apart: with small pages, every few cost a walk of the tables."""
    if math.prod(shape) < LARGE_BYTES * sequences:
        return np.zeros(shape, np.int8)
    memory = np.empty(shape, np.int8)
    memory.fill(0)
    return memory


def memory_bytes(config: LlamaConfig, context: int) -> int:
    """What the KV SRAMs of all layers take on this computer."""
    head = 2 * (config.head_dim + 2 * 4)  # key and value, each with a scale of two int32
    return config.layers * context * config.kv_heads * head


def check_fits(config: LlamaConfig, context: int) -> None:
    """Raise UsageError where the KV SRAM would fill this computer, which then ends the process."""
    need, have = memory_bytes(config, context), installed_bytes()
    if have is not None and need > have:
        raise UsageError(
            f"a KV SRAM of {context:,} positions takes {need / 1e9:,.1f} GB, and this computer has "
            f"{have / 1e9:,.1f}; a smaller --context would do"
        )


@dataclass(frozen=True, slots=True)
class KvSram(Block):
    """The memory of one layer; positions above the current one hold whatever was there."""

    name: ClassVar[str] = "kv_sram"
    reads: ClassVar[tuple[str, ...]] = ("q", "k", "v")
    writes: ClassVar[tuple[str, ...]] = ("q8", "q8_scale")
    writes_memory: ClassVar[bool] = True

    heads: int
    head_dim: int
    k: Int8  # [rows, kv_heads, head_dim]; a position of one sequence is a row
    k_scale: Int32  # [rows, kv_heads, 2]
    v: Int8
    v_scale: Int32
    # [3, 2]: q's log2(e) / sqrt(head_dim) / sqrt(block) / 127, k's 1 / sqrt(block) / 127,
    # v's 1 / 127
    constants: Int32 = field(repr=False)

    @classmethod
    def of(cls, config: LlamaConfig, context: int, sequences: int = 1) -> KvSram:
        """With room for so many sequences of `context` positions, one behind the other."""
        shape = (sequences * context, config.kv_heads, config.head_dim)
        root = math.sqrt(config.head_dim)
        block = math.sqrt(power_of_two_block(config.head_dim))  # R3 is not normalised
        return cls(
            heads=config.heads,
            head_dim=config.head_dim,
            k=_zeros(shape, sequences),
            k_scale=np.zeros((*shape[:2], 2), np.int32),
            v=_zeros(shape, sequences),
            v_scale=np.zeros((*shape[:2], 2), np.int32),
            constants=np.stack(
                [
                    scale_of(LOG2_E / root / block / INT8_MAX),
                    scale_of(1 / block / INT8_MAX),
                    scale_of(1 / INT8_MAX),
                ]
            ),
        )

    def run(self, ops: ModuleType, wires: Wires) -> None:
        wires.q8, wires.q8_scale = ops.kv_write(
            wires.q,
            wires.k,
            wires.v,
            self.constants,
            wires.rows,
            self.k,
            self.k_scale,
            self.v,
            self.v_scale,
        )

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """q and k by heads; v, and the write, end before attention has read the older positions."""
        values = (self.heads + self.kv_heads) * self.head_dim
        block = power_of_two_block(self.head_dim)
        phases = rotate_narrow(spec, values, block, over=self.head_dim)
        return Cost(phases, sram_bits=2 * self.position_bits(spec))

    @property
    def memory(self) -> Arrays:
        return {"k": self.k, "k_scale": self.k_scale, "v": self.v, "v_scale": self.v_scale}

    def with_memory(self, arrays: Arrays) -> KvSram:
        own: dict[str, Any] = {name: arrays[name] for name in self.memory}
        return replace(self, **own)

    def parts(self, sequences: int) -> list[KvSram]:
        """The SRAM of each sequence: views."""
        context = len(self.k) // sequences
        return [
            self.with_memory({n: a[at : at + context] for n, a in self.memory.items()})
            for at in range(0, sequences * context, context)
        ]

    @property
    def kv_heads(self) -> int:
        return int(self.k.shape[1])

    @property
    def stored_bits(self) -> int:
        """Bits of one position's keys and values with their scales, as this emulator holds them."""
        return 2 * self.kv_heads * (8 * self.head_dim + SCALE_BITS)

    def position_bits(self, spec: ChipSpec) -> int:
        """Bits of one position's keys, or values, with their scales."""
        return self.kv_heads * (int(spec.kv_sram.value_bits) * self.head_dim + SCALE_BITS)

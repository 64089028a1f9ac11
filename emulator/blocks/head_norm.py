"""Norm of the heads of q and k (Qwen3): each is divided by its root mean square, times a gain.

It comes before RoPE, and R3 after RoPE, so the gain meets the head in its own basis. It cannot be
folded into a matrix: the root depends on the token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import numpy as np

from emulator.blocks.block import Block
from emulator.blocks.rms_norm import fixed_epsilon
from emulator.blocks.wires import Int16, Int32, Wires
from emulator.fixedpoint import scale_of
from emulator.silicon.cost import Cost, reduce, stream
from emulator.silicon.spec import ChipSpec


@dataclass(frozen=True, slots=True)
class HeadNorm(Block):
    """q, k: Q15.16 int32[T, heads, head_dim] -> the same, normed."""

    name: ClassVar[str] = "head_norm"
    reads: ClassVar[tuple[str, ...]] = ("q", "k")
    writes: ClassVar[tuple[str, ...]] = ("q", "k")

    heads: int  # of q and k together
    epsilon: int  # see `fixed_epsilon`
    q_gain: Int16  # [head_dim]
    k_gain: Int16
    constants: Int32  # [2, 2]: sqrt(head_dim) * 2**-exponent of q's gain, and of k's

    @classmethod
    def of(
        cls, heads: int, epsilon: float, q_gain: Int16, k_gain: Int16, exponents: tuple[int, int]
    ) -> HeadNorm:
        """`exponents` of the two gains: gain = code * 2**-exponent."""
        head_dim = q_gain.size
        scales = [scale_of(math.ldexp(math.sqrt(head_dim), -exponent)) for exponent in exponents]
        return cls(heads, fixed_epsilon(head_dim, epsilon), q_gain, k_gain, np.stack(scales))

    def run(self, ops: ModuleType, wires: Wires) -> None:
        wires.q = ops.head_norm(wires.q, self.q_gain, self.epsilon, self.constants[0])
        wires.k = ops.head_norm(wires.k, self.k_gain, self.epsilon, self.constants[1])

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """A head's maximum, its sum of squares, the root and its reciprocal, and two products."""
        head_dim = self.q_gain.size
        values = self.heads * head_dim
        sums = reduce(spec, values, head_dim)
        root = stream(spec, self.heads, 2 * int(spec.vector.reciprocal))
        phases = (sums, stream(spec, values), sums, root, stream(spec, values))
        return Cost(phases, rom_bits=2 * 16 * head_dim)

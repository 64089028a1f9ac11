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
from emulator.silicon.cost import Cost, Phase, passes, reduce, stream
from emulator.silicon.spec import ChipSpec

QUOTIENT_BITS = 18  # of 2**47 by a root of 31 bits whose first one is set


def root_cycles(spec: ChipSpec) -> int:
    """From a head's sum of squares to its scale, as many bits a cycle as a tree has levels.

    Epsilon, an even shift, 31 bits of root, 18 of its inverse, two normalisations and the constant.
    """
    levels = spec.vector.levels.value
    return 2 + math.ceil(31 / levels) + math.ceil(QUOTIENT_BITS / levels) + 3


@dataclass(frozen=True, slots=True)
class HeadNorm(Block):
    """q, k: Q15.16 int32[T, heads, head_dim] -> the same, normed."""

    name: ClassVar[str] = "head_norm"
    reads: ClassVar[tuple[str, ...]] = ("q", "k")
    writes: ClassVar[tuple[str, ...]] = ("q", "k")

    heads: int  # of q and k together
    kv_heads: int  # of k
    epsilon: int  # see `fixed_epsilon`
    q_gain: Int16  # [head_dim]
    k_gain: Int16
    constants: Int32  # [2, 2]: sqrt(head_dim) * 2**-exponent of q's gain, and of k's

    @classmethod
    def of(
        cls,
        heads: tuple[int, int],
        epsilon: float,
        q_gain: Int16,
        k_gain: Int16,
        exponents: tuple[int, int],
    ) -> HeadNorm:
        """`heads` of q and of k; `exponents` of their gains: gain = code * 2**-exponent."""
        head_dim = q_gain.size
        scales = [scale_of(math.ldexp(math.sqrt(head_dim), -exponent)) for exponent in exponents]
        fixed = fixed_epsilon(head_dim, epsilon)
        return cls(sum(heads), heads[1], fixed, q_gain, k_gain, np.stack(scales))

    def run(self, ops: ModuleType, wires: Wires) -> None:
        wires.q = ops.head_norm(wires.q, self.q_gain, self.epsilon, self.constants[0])
        wires.k = ops.head_norm(wires.k, self.k_gain, self.epsilon, self.constants[1])

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """A head's maximum; shifted and squared; its sum, root and inverse; then the products."""
        head_dim = self.q_gain.size
        values = self.heads * head_dim
        sums = reduce(spec, values, head_dim)
        squares = stream(spec, values, 2)
        root = Phase(passes(spec, self.heads), root_cycles(spec), values)
        phases = (sums, squares, sums, root, stream(spec, values))
        return Cost(phases, rom_bits=2 * 16 * head_dim)

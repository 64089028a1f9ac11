"""RMSNorm: the residual stream as int8, its scale divided by the root mean square.

The gain of a layer's norms is folded into the matrices that follow, so the block has none.
The final norm of a model whose head shares the embedding's table keeps its gain (FinalGain).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.blocks.block import Block
from emulator.blocks.wires import Int32, Wires
from emulator.fixedpoint import scale_of
from emulator.silicon.cost import WHOLE_VECTOR, Cost, hadamard, narrow, passes, reduce, stream, tree
from emulator.silicon.spec import ChipSpec
from kernels.reference import FRACTION, INT8_MAX


def fixed_epsilon(hidden: int, epsilon: float) -> int:
    """hidden * epsilon as the integer that is added to a sum of Q15.16 squares."""
    return round(hidden * epsilon * (1 << 2 * FRACTION))


def root_exposed(spec: ChipSpec, hidden: int) -> int:
    """Cycles by which the root is later than the first sums that want the scale.

    From the maximum on: 16-bit mantissas, squares, their sum down the tree and over the passes,
    epsilon, a shift, 31 bits of root and 33 of quotient (as many a cycle as a tree has levels), two
    normalisations and the constant. Meanwhile: reciprocal, int8, and the next fabric's pass up to
    the group scales. The norm holds x back by the difference; for a wide model there is none.
    """
    levels = spec.vector.levels.value
    steps = math.ceil(31 / levels) + math.ceil(33 / levels)
    lanes = min(hidden, spec.vector.lanes.value)
    root = 1 + passes(spec, hidden) - 1 + 1 + tree(spec, lanes) + 3 + steps + 3
    x = int(spec.vector.reciprocal) + int(spec.vector.pipeline)
    feed = math.ceil(hidden / spec.fabric.lanes.value) - 1 + int(spec.fabric.wire)
    row = int(spec.fabric.alphabet_setup) + tree(spec, spec.fabric.lanes.value) + 1 + 2
    return max(0, root - x - feed - row)


@dataclass(frozen=True, slots=True)
class RmsNorm(Block):
    """residual: Q15.16 int32[T, hidden] -> x int8[T, hidden], the next matrices' input."""

    name: ClassVar[str] = "rms_norm"
    reads: ClassVar[tuple[str, ...]] = ("residual",)
    writes: ClassVar[tuple[str, ...]] = ("x", "x_scale")

    hidden: int
    epsilon: int  # see `fixed_epsilon`
    constant: Int32  # sqrt(hidden) / 127

    @classmethod
    def of(cls, hidden: int, epsilon: float) -> RmsNorm:
        constant = scale_of(math.sqrt(hidden) / INT8_MAX)
        return cls(hidden, fixed_epsilon(hidden, epsilon), constant)

    def run(self, ops: ModuleType, wires: Wires) -> None:
        wires.x, wires.x_scale = ops.rms_norm(wires.residual, self.epsilon, self.constant)

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """The root goes into the scale, which only the fabric's drain awaits."""
        late = stream(spec, self.hidden, root_exposed(spec, self.hidden))
        return Cost((*narrow(spec, self.hidden), late))


@dataclass(frozen=True, slots=True)
class FinalGain(Block):
    """The final norm of a tied model: rotate back, multiply by the gain, rotate again."""

    name: ClassVar[str] = "final_norm"
    reads: ClassVar[tuple[str, ...]] = ("residual",)
    writes: ClassVar[tuple[str, ...]] = ("x", "x_scale")

    gain: NDArray[np.int16]  # [hidden]
    mixer: NDArray[np.int16]  # [m, m] Q1.14, across the m Hadamard blocks of the residual basis
    epsilon: int
    constant: Int32  # sqrt(hidden) / 127 / block * 2**-gain_exponent

    @classmethod
    def of(
        cls, gain: NDArray[np.int16], gain_exponent: int, mixer: NDArray[np.int16], epsilon: float
    ) -> FinalGain:
        hidden = gain.size
        block = hidden // len(mixer)
        constant = scale_of(math.ldexp(math.sqrt(hidden) / INT8_MAX / block, -gain_exponent))
        return cls(gain, mixer, fixed_epsilon(hidden, epsilon), constant)

    def run(self, ops: ModuleType, wires: Wires) -> None:
        wires.x, wires.x_scale = ops.gain_norm(
            wires.residual, self.gain, self.mixer, self.epsilon, self.constant
        )

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """Maximum, rotation, gain; maximum, rotation, and to int8."""
        hidden, m = self.gain.size, len(self.mixer)
        peak = reduce(spec, hidden)
        turn = hadamard(spec, hidden, hidden // m)
        mix = stream(spec, hidden, int(spec.vector.pipeline) + tree(spec, m))  # across the blocks
        rotate = (turn, WHOLE_VECTOR, mix) if m > 1 else (turn,)
        gain = stream(spec, hidden)
        phases = (peak, *rotate, gain, peak, *rotate, *narrow(spec, hidden))
        return Cost(phases, rom_bits=16 * hidden)

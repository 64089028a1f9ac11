"""What is learned of one matrix: a level for each code, a scale for each group.

Levels are chosen once (`emulator.learning.rounding`). Scales are real numbers that follow the
gradients; whenever weights are made they are rounded to the stored grid, int8 multiples of a row's
16-bit scale. So the model that learns always has weights that masks can hold, but for bfloat16.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from emulator.learning.bits16 import ANY_ORDER, narrow, widen
from kernels.rom.pack import PackedMatrix, unpack_codes
from weights.near import scales
from weights.quantize import GROUP_SCALE_MAX, row_scale

Float32 = NDArray[np.float32]
Bits16 = NDArray[np.uint16]
STATE = ("level", "scale", "scale_mean", "scale_square", "row_mean", "row_square")
SMALL = np.float32(1e-30)


@dataclass(frozen=True, slots=True)
class Rate:
    """How far one step goes."""

    group: float  # of a group's scale, relative
    row: float  # of all scales of a row, relative
    momentum: float = 0.9  # of the gradients' running mean
    memory: float = 0.99  # of their running square
    step: int = 1  # which step it is, from 1


@dataclass(slots=True)
class Latents:
    """One matrix while it is learned; arrays are [rows, columns], [rows, groups] or [rows]."""

    start: NDArray[np.uint8]  # codes, [rows, columns]
    values: Float32  # the alphabet, rising
    level: NDArray[np.uint8]  # codes as learned, [rows, columns]
    scale: Float32  # [rows, groups]
    scale_mean: Float32 = field(init=False)  # of the gradient by ln scale, [rows, groups]
    scale_square: Float32 = field(init=False)
    row_mean: Float32 = field(init=False)  # of the gradient by the row's ln scale, [rows]
    row_square: Float32 = field(init=False)

    def __post_init__(self) -> None:
        rows, groups = self.scale.shape
        self.scale_mean, self.scale_square = np.zeros((2, rows, groups), np.float32)
        self.row_mean, self.row_square = np.zeros((2, rows), np.float32)

    @classmethod
    def of(cls, matrix: PackedMatrix) -> Latents:
        """As the masks are."""
        codes = np.ascontiguousarray(unpack_codes(matrix.codes, matrix.rows, matrix.bits))
        return cls(codes, matrix.alphabet.astype(np.float32), codes.copy(), scales(matrix))

    def weights(self, out: Bits16) -> None:
        """The weights that masks would hold now, bits of bfloat16[rows, columns]."""
        _weights(self.level, self.values, self.scale, out)

    def step(self, gradient: Bits16, rate: Rate) -> None:
        """Follow the gradient by the weights, bits of bfloat16[rows, columns]."""
        momentum, memory = rate.momentum, rate.memory
        early = (1 - momentum**rate.step, 1 - memory**rate.step)
        numbers = np.array([rate.group, rate.row, momentum, memory, *early], np.float32)
        groups = self.scale, self.scale_mean, self.scale_square
        rows = self.row_mean, self.row_square
        _step(gradient, self.values, self.level, groups, rows, numbers)

    def moves(self) -> NDArray[np.int8]:
        """Levels that each code is away from where it began, [rows, columns]."""
        moves: NDArray[np.int8] = self.level.view(np.int8) - self.start.view(np.int8)
        return moves  # codes are below 2**6

    def stored_scales(self) -> tuple[NDArray[np.int8], NDArray[np.uint16], NDArray[np.int8]]:
        """Group scales [rows, groups], row mantissas [rows] and exponents [rows]."""
        rows, groups = self.scale.shape
        steps = np.zeros((rows, groups), np.int8)
        mantissa, exponent = np.zeros(rows, np.uint16), np.zeros(rows, np.int8)
        _stored_scales(self.scale, steps, mantissa, exponent)
        return steps, mantissa, exponent


@njit(cache=True, nogil=True)
def _unit(scale):
    """What the group scales of a row are multiples of: (mantissa, exponent, value)."""
    most = np.float32(0)
    for g in range(scale.size):
        most = np.float32(max(most, abs(scale[g])))
    if most == 0:
        return 0, 0, np.float32(0)
    mantissa, exponent = row_scale(np.float64(most) / GROUP_SCALE_MAX)
    return mantissa, exponent, np.float32(np.float64(mantissa) * 2.0 ** np.float64(-exponent))


@njit(cache=True, nogil=True)
def _steps(scale, unit):
    """The nearest multiple of the unit; a scale never changes its sign, so 1 at least."""
    size = min(max(np.floor(abs(scale) / unit + np.float32(0.5)), 1), np.float32(GROUP_SCALE_MAX))
    return -size if scale < 0 else size


@njit(cache=True, nogil=True)
def _stored_scales(scale, steps, mantissa, exponent):
    for r in range(scale.shape[0]):
        mantissa[r], exponent[r], unit = _unit(scale[r])
        for g in range(scale.shape[1]):
            steps[r, g] = int(_steps(scale[r, g], unit)) if scale[r, g] != 0 else 0


@njit(cache=True, nogil=True)
def _weights(level, values, scale, out):
    rows, columns = level.shape
    group = columns // scale.shape[1]
    line = np.empty(columns, np.float32)
    for r in range(rows):
        _, _, unit = _unit(scale[r])
        for g in range(scale.shape[1]):
            s = _steps(scale[r, g], unit) * unit if scale[r, g] != 0 else np.float32(0)
            for i in range(g * group, (g + 1) * group):
                line[i] = s * values[level[r, i]]
        narrow(line, out[r])


@njit(cache=True, nogil=True, fastmath=ANY_ORDER)
def _step(gradient, values, level, groups, rows, numbers):
    scale, scale_mean, scale_square = groups
    row_mean, row_square = rows
    to_group, to_row, momentum, memory, early_mean, early_square = numbers
    one = np.float32(1)
    columns = level.shape[1]
    group = columns // scale.shape[1]
    line = np.empty(columns, np.float32)
    for r in range(level.shape[0]):
        widen(gradient[r], line)
        row_pull = np.float32(0)
        for g in range(scale.shape[1]):
            s, pull = scale[r, g], np.float32(0)
            if s == 0:
                continue
            for i in range(g * group, (g + 1) * group):
                pull += line[i] * values[level[r, i]]
            pull *= s
            row_pull += pull
            scale_mean[r, g] = momentum * scale_mean[r, g] + (one - momentum) * pull
            scale_square[r, g] = memory * scale_square[r, g] + (one - memory) * pull * pull
            size = np.sqrt(scale_square[r, g] / early_square) * early_mean
            scale[r, g] *= one - to_group * scale_mean[r, g] / (size + SMALL)
        row_mean[r] = momentum * row_mean[r] + (one - momentum) * row_pull
        row_square[r] = memory * row_square[r] + (one - memory) * row_pull * row_pull
        size = np.sqrt(row_square[r] / early_square) * early_mean
        by = one - to_row * row_mean[r] / (size + SMALL)
        for g in range(scale.shape[1]):
            scale[r, g] *= by

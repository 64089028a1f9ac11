"""What is learned of one matrix: a place among the levels for each code, a scale for each group.

A code's place is a real number in steps of its alphabet; rounded it is the code. The gradient of a
weight moves its place as if nothing were rounded (straight through), by the alphabet's slope there,
at most one level from where the code began. Scales are real too, and are rounded to the stored
grid, int8 multiples of a row's 16-bit scale, whenever weights are made. So the model that learns
always has weights that masks can hold, but for bfloat16.
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
REACH = np.float32(1.49)  # levels that a place may lie from where it began
STATE = (  # what a step changes
    *("place", "scale", "mean", "square"),
    *("scale_mean", "scale_square", "row_mean", "row_square"),
)
SMALL = np.float32(1e-30)


@dataclass(frozen=True, slots=True)
class Rate:
    """How far one step goes."""

    place: float  # levels
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
    place: Float32  # [rows, columns]
    scale: Float32  # [rows, groups]
    mean: Bits16 = field(init=False)  # running mean of the gradient by place, bfloat16
    square: Float32 = field(init=False)  # running mean square of a group's, [rows, groups]
    scale_mean: Float32 = field(init=False)  # of the gradient by ln scale, [rows, groups]
    scale_square: Float32 = field(init=False)
    row_mean: Float32 = field(init=False)  # of the gradient by the row's ln scale, [rows]
    row_square: Float32 = field(init=False)

    def __post_init__(self) -> None:
        rows, groups = self.scale.shape
        self.mean = np.zeros(self.start.shape, np.uint16)
        self.square, self.scale_mean, self.scale_square = np.zeros((3, rows, groups), np.float32)
        self.row_mean, self.row_square = np.zeros((2, rows), np.float32)

    @classmethod
    def of(cls, matrix: PackedMatrix, original: Float32, lean: float) -> Latents:
        """`lean` of the way from each code to the original weight, if that is the nearest code."""
        codes = np.ascontiguousarray(unpack_codes(matrix.codes, matrix.rows, matrix.bits))
        values = matrix.alphabet.astype(np.float32)
        scale = scales(matrix)
        place = codes.astype(np.float32)
        _lean(original, values, scale, np.float32(lean), place)
        return cls(codes, values, place, scale)

    def weights(self, out: Bits16) -> None:
        """The weights that masks would hold now, bits of bfloat16[rows, columns]."""
        _weights(self.place, self.values, self.scale, out)

    def step(self, gradient: Bits16, rate: Rate) -> None:
        """Follow the gradient by the weights, bits of bfloat16[rows, columns]."""
        momentum, memory = rate.momentum, rate.memory
        early = (1 - momentum**rate.step, 1 - memory**rate.step)
        numbers = np.array([rate.place, rate.group, rate.row, momentum, memory, *early], np.float32)
        groups = self.scale, self.square, self.scale_mean, self.scale_square
        rows = self.row_mean, self.row_square
        codes = self.start, self.place, self.mean
        _step(gradient, self.values, codes, groups, rows, numbers)

    def moves(self) -> NDArray[np.int8]:
        """Levels that each code is away from where it began, [rows, columns]."""
        codes: NDArray[np.int8] = np.floor(self.place + np.float32(0.5)).astype(np.int8)
        codes -= self.start.view(np.int8)  # codes are below 2**6
        return codes

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
def _weights(place, values, scale, out):
    rows, columns = place.shape
    group = columns // scale.shape[1]
    line = np.empty(columns, np.float32)
    for r in range(rows):
        _, _, unit = _unit(scale[r])
        for g in range(scale.shape[1]):
            s = _steps(scale[r, g], unit) * unit if scale[r, g] != 0 else np.float32(0)
            for i in range(g * group, (g + 1) * group):
                line[i] = s * values[int(place[r, i] + np.float32(0.5))]
        narrow(line, out[r])


@njit(cache=True, nogil=True)
def _lean(original, values, scale, lean, place):
    rows, columns = place.shape
    group, last = columns // scale.shape[1], values.size - 1
    for r in range(rows):
        for i in range(columns):
            s = scale[r, i // group]
            if s == 0:
                continue
            code = int(place[r, i])
            miss = original[r, i] / s - values[code]
            other = min(code + 1, last) if miss > 0 else max(code - 1, 0)
            width = abs(values[other] - values[code])
            if width > 0:
                part = min(max(miss / width, np.float32(-0.49)), np.float32(0.49))
                place[r, i] += lean * part


@njit(cache=True, nogil=True, fastmath=ANY_ORDER)
def _step(gradient, values, codes, groups, rows, numbers):
    start, place, mean = codes
    scale, square, scale_mean, scale_square = groups
    row_mean, row_square = rows
    to_place, to_group, to_row, momentum, memory, early_mean, early_square = numbers
    one = np.float32(1)
    columns, last = place.shape[1], values.size - 1
    group = columns // scale.shape[1]
    slope = np.empty(values.size, np.float32)
    for c in range(values.size):
        low, high = max(c - 1, 0), min(c + 1, last)
        slope[c] = (values[high] - values[low]) / np.float32(high - low)
    line, means = np.empty(columns, np.float32), np.empty(columns, np.float32)
    for r in range(place.shape[0]):
        widen(gradient[r], line)
        widen(mean[r], means)
        row_pull = np.float32(0)
        for g in range(scale.shape[1]):
            s, pull, energy = scale[r, g], np.float32(0), np.float32(0)
            if s == 0:
                continue
            for i in range(g * group, (g + 1) * group):
                c = int(place[r, i] + np.float32(0.5))
                pull += line[i] * values[c]
                by_place = line[i] * s * slope[c]
                energy += by_place * by_place
                means[i] = momentum * means[i] + (one - momentum) * by_place
            square[r, g] = memory * square[r, g] + (one - memory) * energy / np.float32(group)
            size = np.sqrt(square[r, g] / early_square) * early_mean
            go = to_place / (size + SMALL)
            for i in range(g * group, (g + 1) * group):
                first = np.float32(start[r, i])
                low, high = max(first - REACH, np.float32(0)), min(first + REACH, np.float32(last))
                place[r, i] = min(max(place[r, i] - go * means[i], low), high)
            pull *= s
            row_pull += pull
            scale_mean[r, g] = momentum * scale_mean[r, g] + (one - momentum) * pull
            scale_square[r, g] = memory * scale_square[r, g] + (one - memory) * pull * pull
            size = np.sqrt(scale_square[r, g] / early_square) * early_mean
            scale[r, g] *= one - to_group * scale_mean[r, g] / (size + SMALL)
        narrow(means, mean[r])
        row_mean[r] = momentum * row_mean[r] + (one - momentum) * row_pull
        row_square[r] = memory * row_square[r] + (one - memory) * row_pull * row_pull
        size = np.sqrt(row_square[r] / early_square) * early_mean
        by = one - to_row * row_mean[r] / (size + SMALL)
        for g in range(scale.shape[1]):
            scale[r, g] *= by

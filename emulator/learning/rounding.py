"""Codes and scales at the least cost to the answer: each row makes good the errors of the others.

With the factors of `emulator.learning.costs`, errors E of a matrix cost trace(G E H E'). With all
other rows held, row i costs G[i, i] times e H e', where e is its own error plus, of each row k, the
error times G[i, k] / G[i, i]. That is what `weights.ldlq` minimises by rounds of scale refit and
coordinate descent, with another target. So rows take turns, and each sees what the others left.
(Both sides of a matrix in one greedy pass: YAQA, arXiv 2505.22988. Here it is descent from `best`.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from emulator.learning.bits16 import widen
from emulator.learning.latents import Latents
from kernels.rom.pack import PackedMatrix
from weights.ldlq import axpy, refit
from weights.quantize import levels_in, nearest

Bits16 = NDArray[np.uint16]
Float32 = NDArray[np.float32]
INPUT_DAMPING = 0.01  # of the mean diagonal, added to it
OUTPUT_DAMPING = 0.1
ROUNDS = 4  # over all rows
SWEEPS = 3  # of a row in a round, at most
REACH = 1  # levels that a code may lie from where it began: what a learned file can hold


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a matrix's errors; both have a mean diagonal of 1."""

    inputs: Float32  # [columns, columns]; bfloat16 would drown the rest beside a massive input
    outputs: Bits16 | None  # [rows, rows] of bfloat16; None: errors of two rows do not meet


def settle(matrix: PackedMatrix, original: Float32, cost: Cost, latents: Latents) -> float:
    """Move the latents' codes and scales; returns the cost that is left, of 1 at the start.

    `latents` are those of the matrix, and `original` the weights that it stands for.
    """
    inputs = cost.inputs.copy()
    _damp(inputs, INPUT_DAMPING)
    outputs = np.ones((1, 1), np.float32)
    if cost.outputs is not None:
        outputs = np.empty(cost.outputs.shape, np.float32)
        widen(cost.outputs.reshape(-1), outputs.reshape(-1))
        _damp(outputs, OUTPUT_DAMPING)
    values, scale = latents.values, latents.scale
    levels = levels_in(matrix.alphabet)
    mantissa, exponent = matrix.row_mantissa.astype(np.float32), matrix.row_exponent.astype(int)
    unit = np.ldexp(mantissa, -exponent)
    level = latents.start.astype(np.int64)
    error = original - np.repeat(scale, matrix.group, 1) * values[level]
    slope = error @ inputs
    before = _cost(outputs, error, slope)
    for _ in range(ROUNDS):
        _round(outputs, inputs, levels, unit, latents.start, level, scale, error, slope)
    latents.level[:] = level
    return _cost(outputs, error, slope) / before if before else 1.0


def _damp(factor: Float32, damping: float) -> None:
    factor.flat[:: len(factor) + 1] += np.float32(damping)


def _cost(outputs: Float32, error: Float32, slope: Float32) -> float:
    joint = outputs @ slope if len(outputs) > 1 else slope
    return float(np.vdot(joint, error))


@njit(cache=True, nogil=True)
def _round(outputs, inputs, levels, unit, start, level, scale, error, slope):
    """Every row once. `slope` is error @ inputs, and stays so."""
    rows, columns = level.shape
    group = columns // scale.shape[1]
    target, before = np.empty((1, columns), np.float32), np.empty(columns, np.float32)
    for r in range(rows):
        if unit[r] == 0:
            continue
        one = slice(r, r + 1)
        target[0] = slope[r]
        if outputs.shape[0] > 1:
            for k in range(rows):
                if k != r:
                    axpy(outputs[r, k] / outputs[r, r], slope[k], target[0])
        before[:] = target[0]
        for _ in range(SWEEPS):
            refit(inputs, levels, unit[one], group, level[one], scale[one], error[one], target)
            if not _descend(inputs, levels, start[r], level[r], scale[r], error[r], target[0]):
                break
        for i in range(columns):
            slope[r, i] += target[0, i] - before[i]


@njit(cache=True, nogil=True)
def _descend(inputs, levels, start, level, scale, error, slope):
    """One sweep over a row: each code to the least cost within its reach. True if any moved."""
    moved = False
    group, last = level.size // scale.size, levels.value.size - 1
    for k in range(level.size):
        s = scale[k // group]
        if s == 0:
            continue
        now = s * levels.value[level[k]]
        low, high = max(int(start[k]) - REACH, 0), min(int(start[k]) + REACH, last)
        code = min(max(nearest((now + slope[k] / inputs[k, k]) / s, levels), low), high)
        if code != level[k]:
            change = now - s * levels.value[code]
            level[k] = code
            error[k] += change
            axpy(change, inputs[k], slope)
            moved = True
    return moved

"""Rotations that spread outliers, as float transforms of the weights.

The residual stream lives in the basis R1 = D * H: random signs, then a Walsh-Hadamard transform
of each run of `block` values, block being the largest power of two that divides the width. R2
does the same, without signs, to each value head; R4 to the input of the down projection. All
are their own inverses up to D. Every step is an elementwise float32 operation in a fixed order,
so the result is the same on every host.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def hadamard_rows(w: Float32, block: int) -> Float32:
    """[rows, n] -> each row times the orthonormal block Hadamard matrix."""
    y = np.ascontiguousarray(w, np.float32).reshape(-1, block)
    step = 1
    while step < block:
        pairs = y.reshape(-1, block // (2 * step), 2, step)
        low, high = pairs[:, :, 0], pairs[:, :, 1]
        y = np.stack([low + high, low - high], axis=2).reshape(-1, block)
        step *= 2
    return (y * np.float32(block**-0.5)).reshape(w.shape)


def signs(width: int, seed: int) -> Float32:
    """D: float32[width] of +-1 from a counter-based generator, the same on every host."""
    raw = np.random.Philox(key=seed).random_raw(width)
    return np.where(raw >> np.uint64(63), -1, 1).astype(np.float32)


def rotate_inputs(w: Float32, sign: Float32, block: int) -> Float32:
    """W[rows, n] that reads the original basis -> one that reads the basis R1."""
    return hadamard_rows(w * sign, block)


def rotate_outputs(w: Float32, sign: Float32, block: int) -> Float32:
    """W[n, columns] that writes the original basis -> one that writes the basis R1."""
    return np.ascontiguousarray(rotate_inputs(w.T, sign, block).T)

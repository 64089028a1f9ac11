"""Rotations that spread outliers, as float transforms of the weights.

The residual stream lives in the basis R1: random signs, a Walsh-Hadamard transform of each run
of `block` values (the largest power of two that divides the width), and, where the width is
m * block with m > 1, an m x m Hartley matrix that mixes the runs. R2 is a Hadamard transform of
each value head, R4 one of the down projection's input. Every step is an elementwise float32
operation in a fixed order, so the result is the same on every host.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from emulator.fixedpoint import power_of_two_block
from kernels.reference import Q1_14

Float32 = NDArray[np.float32]
PIECE = 1 << 18  # values of a piece that a core works on: 1 MiB stays in its cache


def hadamard_rows(w: Float32, block: int) -> Float32:
    """[rows, n] -> each row times the orthonormal block Hadamard matrix."""
    columns = np.array(w.reshape(-1, block).T, np.float32, order="C")  # runs side by side
    return np.ascontiguousarray(_hadamard_columns(columns).T).reshape(w.shape)


def _hadamard_columns(y: Float32) -> Float32:
    """[block, runs] -> the orthonormal Hadamard matrix times each column; y is used up."""
    block, runs = y.shape
    step, other = 1, np.empty_like(y)
    while step < block:
        pairs, to = (array.reshape(-1, 2, step * runs) for array in (y, other))
        np.add(pairs[:, 0], pairs[:, 1], out=to[:, 0])
        np.subtract(pairs[:, 0], pairs[:, 1], out=to[:, 1])
        y, other = other, y
        step *= 2
    return y * np.float32(block**-0.5)


def in_pieces(transform: Callable[[Float32], Float32], w: Float32) -> Float32:
    """`transform` of each row of [rows, n], a piece at a time, on all cores."""
    result = np.empty(w.shape, np.float32)
    rows = max(1, PIECE // w.shape[1])

    def work(start: int) -> None:
        result[start : start + rows] = transform(w[start : start + rows])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(work, range(0, len(w), rows)))
    return result


def mixer(width: int) -> NDArray[np.int16]:
    """The Hartley matrix across the blocks of a width, int16[m, m] Q1.14; symmetric.

    cas(2 pi i j / m) / sqrt(m), its own inverse to within rounding.
    """
    m = width // power_of_two_block(width)
    one = (1 << Q1_14) / math.sqrt(m)
    turns = [[2 * math.pi * (i * j % m) / m for j in range(m)] for i in range(m)]
    cas = [[round(one * (math.cos(a) + math.sin(a))) for a in row] for row in turns]
    return np.array(cas, np.int16)


def mix_rows(w: Float32) -> Float32:
    """[rows, n] -> each row's blocks mixed by the Hartley matrix of width n."""
    # The chip's integers, so that the float transform is the same.
    weights = np.ldexp(mixer(w.shape[1]).astype(np.float32), -Q1_14)
    m = len(weights)
    if m == 1:
        return w
    blocks = w.reshape(len(w), m, -1)
    mixed = np.zeros_like(blocks)
    for i in range(m):
        for j in range(m):
            mixed[:, i] += weights[i, j] * blocks[:, j]
    return mixed.reshape(w.shape)


def signs(width: int, seed: int) -> Float32:
    """float32[width] of +-1 from a counter-based generator, the same on every host."""
    raw = np.random.Philox(key=seed).random_raw(width)
    return np.where(raw >> np.uint64(63), -1, 1).astype(np.float32)


def rotate_inputs(w: Float32, sign: Float32) -> Float32:
    """W[rows, n] that reads the original basis -> one that reads the basis R1.

    `sign` may hold a gain too, which is the same as W with its columns times that gain.
    """
    block = power_of_two_block(w.shape[1])
    return in_pieces(lambda rows: mix_rows(hadamard_rows(rows * sign, block)), w)


def rotate_outputs(w: Float32, sign: Float32) -> Float32:
    """W[n, columns] that writes the original basis -> one that writes the basis R1."""
    return np.ascontiguousarray(rotate_inputs(w.T, sign).T)

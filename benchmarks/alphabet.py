"""The Gaussian alphabets of `weights.quantize`: levels of least error for groups of 32 weights.

    python -m benchmarks.alphabet

A group of a Gaussian row picks the scale, and its sign, that leave the least squared error; then
each level moves to the mean of what chose it, and so on (Lloyd's iteration). Beside the levels
stands the error left, in parts of the weights' variance, and that of an even, symmetric alphabet.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.rom.pack import LARGEST_LEVEL
from kernels.rom.widths import WIDTHS

GROUPS, ROUNDS = 20_000, 60
REACHES = np.arange(1.1, 0.5, -0.02)  # candidate scales: largest level over largest weight
Float64 = NDArray[np.float64]


def main() -> None:
    weights = np.random.default_rng(0).standard_normal((GROUPS, WIDTHS[3].group))
    for bits in (3, 4):
        even = np.arange(-(2 ** (bits - 1)) + 0.5, 2 ** (bits - 1))
        levels = even + 0.1  # off the middle, which is a saddle point
        for _ in range(ROUNDS):
            scale, code, _ = fitted(weights, levels)
            size = np.broadcast_to(np.square(scale), weights.shape)
            pull = np.bincount(code.ravel(), (weights * scale).ravel(), len(levels))
            levels = pull / np.bincount(code.ravel(), size.ravel(), len(levels))
            levels *= LARGEST_LEVEL / np.abs(levels).max()
        if levels[0] == -LARGEST_LEVEL:
            levels = -levels[::-1]
        levels = np.rint(levels)
        left, plain = fitted(weights, levels)[2], fitted(weights, even)[2]
        print(f"{bits} bits: {levels.astype(int).tolist()}, error {left:.5f} (even: {plain:.5f})")


def fitted(w: Float64, levels: Float64) -> tuple[Float64, NDArray[np.int64], float]:
    """Signed scale [groups, 1] and code [groups, 32] of each weight, and the mean squared error."""
    between = (levels[1:] + levels[:-1]) / 2
    least = np.full((len(w), 1), np.inf)
    scale, code = np.zeros((len(w), 1)), np.zeros(w.shape, np.int64)
    largest = np.abs(w).max(axis=1, keepdims=True)
    for reach in (*REACHES, *-REACHES):
        codes = np.searchsorted(between, w / (largest * reach / np.abs(levels).max()))
        chosen = levels[codes]
        fit = (w * chosen).sum(axis=1, keepdims=True) / np.square(chosen).sum(axis=1, keepdims=True)
        error = np.square(w - fit * chosen).mean(axis=1, keepdims=True)
        better = error < least
        least = np.where(better, error, least)
        scale, code = np.where(better, fit, scale), np.where(better, codes, code)
    return scale, code, float(least.mean())


if __name__ == "__main__":
    main()

"""How a pass's inputs stray from those that nearly exact masks would give it: exact moments.

Signals are integers with a unit for each token, rounded as in `weights.calibrate`: sums of products
stay below 2**53, so the same masks and text give the same moments on every host.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kernels.reference import FRACTION
from weights.calibrate import LOUDNESS, MAX_TOKENS, WEIGHT_BITS

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Signal:
    """Tokens as integers, each with the size of its unit."""

    x: NDArray[np.int8]  # [T, n]
    unit: Float64  # [T]

    @classmethod
    def of_wire(cls, x: NDArray[np.int8], scale: NDArray[np.int32]) -> Signal:
        """A fabric's input with its scales int32[T, 2] (mantissa, exponent)."""
        return cls(x, np.ldexp(scale[:, 0].astype(np.float64), -scale[:, 1]))

    @classmethod
    def of_stream(cls, residual: NDArray[np.int64]) -> Signal:
        """Q15.16 values [T, n], rounded to 1/127 of each token's largest."""
        peak = np.abs(residual).max(axis=1, initial=0)
        x = np.rint(residual * (127 / np.maximum(peak, 1))[:, None]).astype(np.int8)
        return cls(x, np.ldexp(peak / 127, -FRACTION))


@dataclass(slots=True)
class CrossMoments:
    """Sum over tokens of a b', [rows, columns]; exact, as `weights.calibrate.Moments` is."""

    rows: int
    columns: int
    value: Float64 = field(init=False)

    def __post_init__(self) -> None:
        self.value = np.zeros((self.rows, self.columns))

    def add(self, a: Signal, b: Signal) -> None:
        """Tokens of both signals; units are rounded to 12 bits, quieter tokens summed apart."""
        if len(a.x) > MAX_TOKENS:
            raise ValueError(f"{len(a.x)} tokens at once could leave 2**53")
        left = b.unit.copy()
        while (loud := left.max(initial=0.0)) > 0:
            chosen = left > loud / LOUDNESS
            one, weighted_a = _weighted(a, chosen)
            other, weighted_b = _weighted(b, chosen)
            self.value += weighted_a.T @ weighted_b * (one * other)
            left[chosen] = 0


def _weighted(signal: Signal, chosen: NDArray[np.bool_]) -> tuple[float, Float64]:
    """The unit of whole numbers, and chosen tokens as such: 127 * 2**12 at most."""
    loudness = signal.unit[chosen]
    unit = float(loudness.max()) / (1 << WEIGHT_BITS) or 1.0
    return unit, signal.x[chosen] * np.rint(loudness[:, None] / unit)


@dataclass(slots=True)
class Stray:
    """How the inputs of a pass differ from those that nearly exact masks would give it."""

    own: CrossMoments  # H
    cross: CrossMoments  # C
    lack: CrossMoments | None  # D, of a pass that adds to the residual stream

    @classmethod
    def of(cls, columns: int, rows: int | None) -> Stray:
        """`rows` of the residual stream, None if the pass does not add to it."""
        lack = None if rows is None else CrossMoments(rows, columns)
        return cls(CrossMoments(columns, columns), CrossMoments(columns, columns), lack)

    def add(self, z: Signal, x: Signal, lack: NDArray[np.int64]) -> None:
        """Tokens: what the pass reads, what it ought to read, what the stream lacks [T, hidden]."""
        self.own.add(z, z)
        self.cross.add(x, z)
        if self.lack is not None:
            self.lack.add(Signal.of_stream(lack), z)

"""Random numbers whose bits are the same on every host.

Philox counts, and everything after it is +, -, *, /, a square root or a change of exponent, which
IEEE 754 rounds alike everywhere. No math library is asked for a logarithm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]

LN2 = 0.6931471805599453
SQRT_HALF = 0.7071067811865476
LOG_TERMS = 12  # of the series of atanh for |s| <= 0.172: the 13th is below 2^-53
EXP_TERMS = 15  # of the series of exp for |r| <= 0.35


class Stream:
    """One of many independent streams of a seed."""

    def __init__(self, seed: int, number: int) -> None:
        self._bits = np.random.Philox(key=np.array([seed, number], np.uint64))

    def uniform(self, count: int) -> Reals:
        """float64[count], multiples of 2^-53 in [0, 1)."""
        raw = np.asarray(self._bits.random_raw(count), np.uint64)
        return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def exponential(self, count: int) -> Reals:
        """float64[count] of mean 1."""
        return -log(1.0 - self.uniform(count))

    def normal(self, count: int) -> Reals:
        """float64[count] of mean 0 and variance 1, by Marsaglia's polar method."""
        parts, have = [], 0
        while have < count:
            pair = 2 * self.uniform(2 * (count - have)).reshape(2, -1) - 1
            square = pair[0] * pair[0] + pair[1] * pair[1]
            kept = (square > 0) & (square < 1)
            s = square[kept]
            parts.append(pair[0][kept] * np.sqrt(-2 * log(s) / s))
            have += s.size
        return np.concatenate(parts)[:count] if parts else np.zeros(0)

    def gamma(self, shape: float, count: int) -> Reals:
        """float64[count] of mean `shape`, by Marsaglia and Tsang (ACM TOMS 26, 2000)."""
        boosted = shape if shape >= 1 else shape + 1
        d = boosted - 1 / 3
        c = 1 / np.sqrt(9 * d)
        parts, have = [], 0
        while have < count:
            x = self.normal(count - have)
            u = 1.0 - self.uniform(count - have)
            v = (1 + c * x) * (1 + c * x) * (1 + c * x)
            positive = v > 0
            safe = np.where(positive, v, 1.0)
            kept = positive & (log(u) < 0.5 * x * x + d - d * v + d * log(safe))
            parts.append(d * v[kept])
            have += parts[-1].size
        drawn = np.concatenate(parts)[:count] if parts else np.zeros(0)
        if shape < 1:
            drawn = drawn * exp(log(1.0 - self.uniform(count)) / shape)
        return drawn


def log(x: Reals) -> Reals:
    """Natural logarithm of positive numbers, within 2e-15."""
    mantissa, exponent = np.frexp(x)
    small = mantissa < SQRT_HALF
    mantissa = np.where(small, 2 * mantissa, mantissa)
    s = (mantissa - 1) / (mantissa + 1)
    z = s * s
    series = np.zeros_like(z)
    for term in range(LOG_TERMS, -1, -1):
        series = series * z + 1 / (2 * term + 1)
    return np.asarray((exponent - small) * LN2 + 2 * s * series, np.float64)


def exp(x: Reals) -> Reals:
    """e to the power of x; 0 below the smallest float."""
    x = np.maximum(x, -800.0)
    whole = np.rint(x / LN2)
    rest = x - whole * LN2
    series = np.ones_like(rest)
    for term in range(EXP_TERMS, 0, -1):
        series = 1 + series * rest / term
    return np.ldexp(series, whole.astype(np.int64))

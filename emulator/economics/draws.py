"""The constants as numbers: their values, or thousands of draws over their ranges."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from emulator.economics.constants import Constant, Economics
from emulator.traffic.randomness import Reals, Stream, exp, log

WIDE = 5  # ranges that span such a factor are drawn on the logarithm

Known = Mapping[str, Reals]  # float64[draws] by "section.key"


def at_values(economics: Economics) -> Known:
    """Each constant at its value: arrays of one."""
    return {key: np.array([c.value]) for key, c in economics.constants.items()}


def at_end(economics: Economics, key: str, end: int) -> Known:
    """All at their values but one, which is at the low (0) or high (1) end of its range."""
    constants = economics.constants
    return {**at_values(economics), key: np.array([constants[key].range[end]])}


def drawn(economics: Economics, draws: int, seed: int) -> Known:
    """float64[draws] of each constant, independent of each other; each has a stream of its own."""
    return {
        key: _triangular(constant, Stream(seed, number).uniform(draws))
        for number, (key, constant) in enumerate(sorted(economics.constants.items()))
    }


def _triangular(constant: Constant, uniform: Reals) -> Reals:
    low, high = constant.range
    if low == high:
        return np.full(uniform.size, low)
    if low > 0 and high / low >= WIDE:
        ends = log(np.array([low, constant.value, high]))
        return exp(_inverse(float(ends[0]), float(ends[1]), float(ends[2]), uniform))
    return _inverse(low, constant.value, high, uniform)


def _inverse(low: float, peak: float, high: float, uniform: Reals) -> Reals:
    """Inverse of the triangular distribution."""
    split = (peak - low) / (high - low)
    rising = low + np.sqrt(uniform * (high - low) * (peak - low))
    falling = high - np.sqrt((1 - uniform) * (high - low) * (high - peak))
    return np.where(uniform < split, rising, falling)

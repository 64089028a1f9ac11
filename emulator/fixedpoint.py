"""Number formats: convert real constants to and from the chip's mantissa and exponent.

The arithmetic on these formats is in `kernels.reference`, which defines every bit.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

LOG2_E = 1.4426950408889634


def scale_of(value: float) -> NDArray[np.int32]:
    """A positive constant as int32[2] (mantissa of 16 bits, exponent): mantissa * 2**-exponent."""
    fraction, exponent = math.frexp(value)  # value = fraction * 2**exponent, 0.5 <= fraction < 1
    mantissa = round(fraction * 65536)
    if mantissa == 65536:
        mantissa, exponent = 32768, exponent + 1
    return np.array([mantissa, 16 - exponent], np.int32)


def scale_value(scale: NDArray[np.int32]) -> NDArray[np.float64]:
    """Scales int32[..., 2] -> their real values."""
    return np.ldexp(scale[..., 0].astype(np.float64), -scale[..., 1])


def power_of_two_block(width: int) -> int:
    """Largest power of two that divides `width`: the block of its Hadamard transform."""
    return width & -width

"""The two small ROM tables of the datapath, computed in decimal so that every host agrees.

Binary floating point is left out on purpose: libm differs between hosts in the last bit, and
`decimal` is the same software everywhere.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

EXP2_BITS = 5  # 32 intervals over one octave
EXP2_ONE = 32767  # 2**0: the largest probability, so that it fits 16 signed bits
SILU_RANGE = 8  # beyond +-8 SiLU is x, or 0
SILU_STEP_BITS = 12  # a step of 2**12 in Q15.16 is 1/16


def exp2_table() -> NDArray[np.int32]:
    """int32[33]: 32767 * 2**(-j / 32)."""
    with localcontext(prec=40):
        two = Decimal(2)
        return _rounded([EXP2_ONE * two ** (Decimal(-j) / 32) for j in range(33)])


def silu_table() -> NDArray[np.int32]:
    """int32[257], Q15.16: SiLU at -8, -8 + 1/16, .. +8."""
    with localcontext(prec=40):
        points = [Decimal(j) / 16 - SILU_RANGE for j in range(257)]
        return _rounded([65536 * x / (1 + (-x).exp()) for x in points])


def _rounded(values: list[Decimal]) -> NDArray[np.int32]:
    return np.array([int(v.to_integral_value(ROUND_HALF_EVEN)) for v in values], np.int32)

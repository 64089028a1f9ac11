"""The small ROM tables of the datapath, computed in decimal so that every host agrees.

Binary floating point is left out on purpose: libm differs between hosts in the last bit, and
`decimal` is the same software everywhere.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from functools import cache

import numpy as np
from numpy.typing import NDArray

EXP2_BITS = 5  # 32 intervals over one octave
EXP2_ONE = 32767  # 2**0: the largest probability, so that it fits 16 signed bits
SILU_RANGE = 8  # beyond +-8 SiLU is x, or 0
SILU_STEP_BITS = 12  # a step of 2**12 in Q15.16 is 1/16
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")


def exp2_table() -> NDArray[np.int32]:
    """int32[33]: 32767 * 2**(-j / 32)."""
    with localcontext(prec=40):
        two = Decimal(2)
        return _rounded([EXP2_ONE * two ** (Decimal(-j) / 32) for j in range(33)])


def silu_table() -> NDArray[np.int32]:
    """int32[257], Q15.16: SiLU at -8, -8 + 1/16, .. +8."""
    with localcontext(prec=40):
        return _rounded([65536 * x / (1 + (-x).exp()) for x in _points()])


@cache
def gelu_table() -> NDArray[np.int32]:
    """int32[257], Q15.16: x Phi(x), Phi the normal distribution, at the points of SiLU's."""
    with localcontext(prec=60):  # the terms of erf reach e**32
        root = Decimal(2).sqrt()
        return _rounded([65536 * x * (1 + _erf(x / root)) / 2 for x in _points()])


@cache
def gelu_tanh_table() -> NDArray[np.int32]:
    """The same with Phi(x) = (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))) / 2."""
    with localcontext(prec=40):
        root = (2 / PI).sqrt()
        inner = [root * (x + Decimal("0.044715") * x**3) for x in _points()]
        return _rounded(
            [65536 * x / (1 + (-2 * y).exp()) for x, y in zip(_points(), inner, strict=True)]
        )


def _points() -> list[Decimal]:
    return [Decimal(j) / 16 - SILU_RANGE for j in range(257)]


def _erf(x: Decimal) -> Decimal:
    """By its series, 2 / sqrt(pi) * sum of (-1)**n x**(2 n + 1) / (n! (2 n + 1))."""
    term, total, n = x, x, 0
    while abs(term) > Decimal("1e-30"):
        n += 1
        term *= -x * x / n
        total += term / (2 * n + 1)
    return 2 * total / PI.sqrt()


def _rounded(values: list[Decimal]) -> NDArray[np.int32]:
    return np.array([int(v.to_integral_value(ROUND_HALF_EVEN)) for v in values], np.int32)

"""bfloat16 as the upper half of a float32, for loops that numba compiles.

numba knows no bfloat16, so a loop takes and leaves uint16 views of torch's tensors, a row at a
time through a float32 row that stays in the core's cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

ANY_ORDER = {"reassoc", "contract", "nsz"}  # of sums: what is learned differs between hosts anyway


def raw(tensor: Any) -> NDArray[np.uint16]:
    """The bits of a contiguous bfloat16 tensor, as an array on the same memory."""
    import torch

    view: NDArray[np.int16] = tensor.detach().view(torch.int16).numpy()
    return view.view(np.uint16)


@njit(cache=True, nogil=True)
def widen(bits, values):
    """values: float32[n] of uint16[n]."""
    to = values.view(np.uint32)
    for i in range(bits.size):
        to[i] = np.uint32(bits[i]) << np.uint32(16)


@njit(cache=True, nogil=True)
def narrow(values, bits):
    """bits: uint16[n] of float32[n], to nearest, ties to even."""
    of = values.view(np.uint32)
    for i in range(bits.size):
        bits[i] = (of[i] + np.uint32(0x7FFF) + ((of[i] >> np.uint32(16)) & np.uint32(1))) >> 16


@njit(cache=True, nogil=True)
def exponentials(values, least):
    """values: e**values in place, float32[n]; below `least` as at `least`. Off by 2e-6 at most.

    2**n by the exponent's bits times a polynomial of 2**f, which a compiler can make vectors of.
    """
    for i in range(values.size):
        x = max(values[i], least) * np.float32(1.4426950408889634)
        n = np.floor(x + np.float32(0.5))
        f = x - n
        p = np.float32(1.3333558e-3)
        p = p * f + np.float32(9.6181291e-3)
        p = p * f + np.float32(5.5504109e-2)
        p = p * f + np.float32(2.4022651e-1)
        p = p * f + np.float32(6.9314718e-1)
        p = p * f + np.float32(1.0)
        bits = np.float32(p).view(np.int32) + (np.int32(n) << np.int32(23))
        values[i] = np.int32(bits).view(np.float32)

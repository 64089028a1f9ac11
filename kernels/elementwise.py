"""SwiGLU, the residual sum and the top-k search, compiled. Twins in `kernels.reference`."""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels.arith import round_shift, saturate_int32
from kernels.reference import FRACTION, SILU
from kernels.tables import SILU_RANGE, SILU_STEP_BITS


@njit(cache=True, nogil=True)
def swiglu(gate, up, out):
    limit = SILU_RANGE << FRACTION
    for i in range(gate.size):
        g = np.int64(gate[i])
        if g >= limit:
            silu = g
        elif g < -limit:
            silu = np.int64(0)
        else:
            index = (g + limit) >> SILU_STEP_BITS
            rest = (g + limit) & ((1 << SILU_STEP_BITS) - 1)
            low, high = np.int64(SILU[index]), np.int64(SILU[index + 1])
            silu = low + round_shift((high - low) * rest, SILU_STEP_BITS)
        out[i] = saturate_int32(round_shift(silu * np.int64(up[i]), FRACTION))


@njit(cache=True, nogil=True)
def residual_add(residual, delta, out):
    for i in range(residual.size):
        out[i] = saturate_int32(np.int64(residual[i]) + np.int64(delta[i]))


@njit(cache=True, nogil=True)
def top_k(logits, indices):
    """A k-entry sorter fed one logit after another, as the chip's is."""
    k = indices.size
    filled = 0
    for i in range(logits.size):
        place = filled
        while place > 0 and logits[indices[place - 1]] < logits[i]:
            place -= 1
        if place == k:
            continue
        for j in range(min(filled, k - 1), place, -1):
            indices[j] = indices[j - 1]
        indices[place] = i
        filled = min(filled + 1, k)

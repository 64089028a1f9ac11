"""RMSNorm of each head of q or k, with a gain, compiled. Twin in `kernels.reference`."""

from __future__ import annotations

import numpy as np
from numba import int16, int32, int64, types, void

from kernels.arith import normalise, round_shift, saturate_int32, to_int16
from kernels.blocks.rms_norm import inverse_rms
from kernels.host.entry import entry
from kernels.reference import FRACTION


@entry(
    void(
        int32[:, ::1], types.Array(int16, 1, "C", readonly=True), int64, int32[::1], int32[:, ::1]
    ),
)
def head_norm(v, gain, epsilon, constant, out):
    """int32[heads of all tokens, head_dim] -> the same."""
    n = v.shape[1]
    h = np.empty(n, np.int32)
    for head in range(v.shape[0]):
        shift = to_int16(v[head], h)
        mantissa, exponent = inverse_rms(h, shift, epsilon, np.int64(1), np.int64(0))
        mantissa, exponent = normalise(
            mantissa * np.int64(constant[0]), exponent + np.int64(constant[1])
        )
        for i in range(n):
            product = np.int64(h[i]) * np.int64(gain[i]) * mantissa
            out[head, i] = saturate_int32(round_shift(product, exponent - FRACTION))

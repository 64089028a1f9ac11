"""A bias on the fabric's outputs, compiled. Twin in `kernels.reference`."""

from __future__ import annotations

import numpy as np
from numba import int32, types, void

from kernels.arith import saturate_int32
from kernels.host.entry import entry


@entry(
    void(int32[:, ::1], types.Array(int32, 1, "C", readonly=True), int32[:, ::1]),
)
def bias_add(v, bias, out):
    for t in range(v.shape[0]):
        for i in range(v.shape[1]):
            out[t, i] = saturate_int32(np.int64(v[t, i]) + np.int64(bias[i]))

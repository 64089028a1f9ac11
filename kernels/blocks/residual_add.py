"""The residual sum, saturating, compiled. Twin in `kernels.reference`."""

from __future__ import annotations

import numpy as np

from kernels.arith import saturate_int32
from kernels.host.entry import entry, inner
from kernels.host.simd import view_i32


@entry("void(int32[::1], int32[::1], int32[::1])")
def residual_add(residual, delta, out):
    for i in range(residual.size):
        out[i] = saturate_int32(np.int64(residual[i]) + np.int64(delta[i]))


@inner
def residual_add_one(residual, delta, n, out):
    """int32[n] at two addresses -> their sums at a third."""
    residual_add(view_i32(residual, n), view_i32(delta, n), view_i32(out, n))

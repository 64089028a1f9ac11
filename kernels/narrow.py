"""A vector to int8 by its own absolute maximum, compiled; also behind a Hadamard transform.

Several blocks end with it. Twins in `kernels.reference`.
"""

from __future__ import annotations

import numpy as np

from kernels.arith import hadamard, normalise, store_scale, to_int8, to_int16
from kernels.host.entry import entry, inner
from kernels.host.simd import view_i8, view_i32
from kernels.reference import FRACTION


@inner
def narrow_one(v, n, constant, x, scale):
    """int32[n] at address v -> int8[n] at x, int32[2] at `scale`.

    Addresses, since a slice of an array counts references, which costs more than a short head.
    """
    peak, exponent = to_int8(view_i32(v, n), FRACTION, view_i8(x, n))
    mantissa, exponent = normalise(peak, exponent)
    store_scale(scale, mantissa, exponent, constant)


@inner
def rotate_narrow_one(v, n, block, constant, x, scale, h):
    """The same behind a Hadamard transform; int32[n] at h is overwritten."""
    mantissas = view_i32(h, n)
    shift = to_int16(view_i32(v, n), mantissas)
    hadamard(mantissas, block)
    peak, exponent = to_int8(mantissas, FRACTION - shift, view_i8(x, n))
    mantissa, exponent = normalise(peak, exponent)
    store_scale(scale, mantissa, exponent, constant)


@entry("void(int32[:, ::1], int32[::1], int8[:, ::1], int32[:, ::1])")
def narrow(v, constant, x, scale):
    n = v.shape[1]
    for t in range(v.shape[0]):
        place = t * n
        narrow_one(
            v.ctypes.data + 4 * place, n, constant, x.ctypes.data + place, scale.ctypes.data + 8 * t
        )


@entry("void(int32[:, ::1], int64, int32[::1], int8[:, ::1], int32[:, ::1])")
def rotate_narrow(v, block, constant, x, scale):
    n = v.shape[1]
    h = np.empty(n, np.int32)
    for t in range(v.shape[0]):
        rotate_narrow_one(
            v.ctypes.data + 4 * t * n,
            n,
            block,
            constant,
            x.ctypes.data + t * n,
            scale.ctypes.data + 8 * t,
            h.ctypes.data,
        )

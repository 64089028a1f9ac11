"""SwiGLU and its narrowing to int8, compiled. Twins in `kernels.reference`."""

from __future__ import annotations

import numpy as np

from kernels.arith import saturate_int32
from kernels.host.entry import entry, inner
from kernels.host.simd import inline, view_i32
from kernels.narrow import rotate_narrow_one
from kernels.reference import FRACTION, SILU
from kernels.tables import SILU_RANGE, SILU_STEP_BITS


@inline
def silu_product(gate, up):
    """Without a branch: the table's ends are reached, then put right."""
    limit = SILU_RANGE << FRACTION
    g = np.int64(gate)
    offset = min(max(g + limit, 0), 2 * limit - 1)
    index, rest = offset >> SILU_STEP_BITS, offset & ((1 << SILU_STEP_BITS) - 1)
    low, high = np.int64(SILU[index]), np.int64(SILU[index + 1])
    silu = low + (((high - low) * rest + (1 << (SILU_STEP_BITS - 1))) >> SILU_STEP_BITS)
    silu = g if g >= limit else silu
    silu = 0 if g < -limit else silu
    return saturate_int32((silu * np.int64(up) + (1 << (FRACTION - 1))) >> FRACTION)


@entry("void(int32[::1], int32[::1], int32[::1])")
def swiglu(gate, up, out):
    for i in range(gate.size):
        out[i] = silu_product(gate[i], up[i])


@inner
def swiglu_narrow_one(gate, up, n, block, constant, x, scale, h):
    """int32[n] at two addresses -> int8[n] at x, int32[2] at `scale`; 2 n words at h are used."""
    product = h + 4 * n
    swiglu(view_i32(gate, n), view_i32(up, n), view_i32(product, n))
    rotate_narrow_one(product, n, block, constant, x, scale, h)


@entry("void(int32[:, ::1], int32[:, ::1], int64, int32[::1], int8[:, ::1], int32[:, ::1])")
def swiglu_narrow(gate, up, block, constant, x, scale):
    n = gate.shape[1]
    h = np.empty(2 * n, np.int32)
    for t in range(gate.shape[0]):
        g, u = gate.ctypes.data + 4 * t * n, up.ctypes.data + 4 * t * n
        to, scale_to = x.ctypes.data + t * n, scale.ctypes.data + 8 * t
        swiglu_narrow_one(g, u, n, block, constant, to, scale_to, h.ctypes.data)

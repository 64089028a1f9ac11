"""A vector to int8 by its own absolute maximum, compiled; also behind a Hadamard transform.

Several blocks end with it. Twins in `kernels.reference`.
"""

from __future__ import annotations

from kernels.arith import hadamard, normalise, store_scale, to_int8, to_int16
from kernels.host.entry import entry, inner, routine
from kernels.host.job import OF_TOKENS, run_of_tokens, share_tokens, words
from kernels.host.simd import view_i8, view_i32
from kernels.reference import FRACTION

V, N, BLOCK, CONSTANT, X, SCALE = range(OF_TOKENS, OF_TOKENS + 6)


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


@entry("void(int64[::1], int32[:, ::1], int64, int32[::1], int8[:, ::1], int32[:, ::1])")
def narrow(job, v, block, constant, x, scale):
    """Set up: each vector by itself; behind a Hadamard transform if `block` is not 0."""
    share_tokens(job, v.shape[0])
    job[V], job[N], job[BLOCK], job[CONSTANT] = (
        v.ctypes.data,
        v.shape[1],
        block,
        constant.ctypes.data,
    )
    job[X], job[SCALE] = x.ctypes.data, scale.ctypes.data


@routine
def narrow_vectors(address, chunk, scratch):
    job = words(address)
    n, constant = job[N], view_i32(job[CONSTANT], 2)
    first, last = run_of_tokens(job, chunk)
    for t in range(first, last):
        v, x, scale = job[V] + 4 * t * n, job[X] + t * n, job[SCALE] + 8 * t
        if job[BLOCK] == 0:
            narrow_one(v, n, constant, x, scale)
        else:
            rotate_narrow_one(v, n, job[BLOCK], constant, x, scale, scratch)

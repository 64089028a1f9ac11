"""Rotary embedding, compiled. Twin in `kernels.reference`."""

from __future__ import annotations

import numpy as np
from numba import int16, int32, int64, types, void

from kernels.arith import saturate_int32
from kernels.host.entry import entry, routine
from kernels.host.job import OF_TOKENS, run_of_tokens, share_tokens, words
from kernels.host.simd import get_i64, view_i16, view_i32
from kernels.reference import Q1_14

ROM_TABLE = types.Array(int16, 2, "C", readonly=True)
HALF = 1 << (Q1_14 - 1)  # what rounds half up

V, HEADS, N, POSITIONS, COSINE, SINE, OUT = range(OF_TOKENS, OF_TOKENS + 7)


@entry(void(int64[::1], int32[:, :, ::1], int64[::1], ROM_TABLE, ROM_TABLE, int32[:, :, ::1]))
def rope(job, v, positions, cosine, sine, out):
    tokens, heads, head_dim = v.shape
    share_tokens(job, tokens)
    job[V], job[HEADS], job[N], job[OUT] = v.ctypes.data, heads, head_dim, out.ctypes.data
    job[POSITIONS] = positions.ctypes.data
    job[COSINE], job[SINE] = cosine.ctypes.data, sine.ctypes.data


@routine
def rope_tokens(address, chunk, scratch):
    job = words(address)
    n, half = job[N], job[N] // 2
    first, last = run_of_tokens(job, chunk)
    for t in range(first, last):
        row = 2 * half * get_i64(job[POSITIONS] + 8 * t)
        cosines, sines = view_i16(job[COSINE] + row, half), view_i16(job[SINE] + row, half)
        for head in range(job[HEADS]):
            at = 4 * n * (t * job[HEADS] + head)
            left, right = view_i32(job[V] + at, half), view_i32(job[V] + at + 4 * half, half)
            to_left, to_right = job[OUT] + at, job[OUT] + at + 4 * half
            turned_left, turned_right = view_i32(to_left, half), view_i32(to_right, half)
            for i in range(half):
                a, b = np.int64(left[i]), np.int64(right[i])
                c, s = np.int64(cosines[i]), np.int64(sines[i])
                turned_left[i] = saturate_int32((a * c - b * s + HALF) >> Q1_14)
                turned_right[i] = saturate_int32((b * c + a * s + HALF) >> Q1_14)

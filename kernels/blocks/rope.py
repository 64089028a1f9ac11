"""Rotary embedding, compiled. Twin in `kernels.reference`."""

from __future__ import annotations

import numpy as np
from numba import int16, int32, int64, types, void

from kernels.arith import saturate_int32
from kernels.host.entry import entry
from kernels.reference import Q1_14

ROM_TABLE = types.Array(int16, 2, "C", readonly=True)
HALF = 1 << (Q1_14 - 1)  # what rounds half up


@entry(void(int32[:, :, ::1], int64[::1], ROM_TABLE, ROM_TABLE, int32[:, :, ::1]))
def rope(v, positions, cosine, sine, out):
    tokens, heads, head_dim = v.shape
    half = head_dim // 2
    for t in range(tokens):
        cosines, sines = cosine[positions[t]], sine[positions[t]]
        for head in range(heads):
            left, right = v[t, head, :half], v[t, head, half:]
            turned_left, turned_right = out[t, head, :half], out[t, head, half:]
            for i in range(half):
                a, b = np.int64(left[i]), np.int64(right[i])
                c, s = np.int64(cosines[i]), np.int64(sines[i])
                turned_left[i] = saturate_int32((a * c - b * s + HALF) >> Q1_14)
                turned_right[i] = saturate_int32((b * c + a * s + HALF) >> Q1_14)

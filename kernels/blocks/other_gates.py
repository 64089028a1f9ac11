"""GELU and ReLU^2 gates and their narrowing to int8, compiled. Twins in `kernels.reference`."""

from __future__ import annotations

import numpy as np
from numba import int8, int32, int64, types, void

from kernels.arith import saturate_int32
from kernels.blocks.gates import TABLE as TABLE_AT
from kernels.blocks.gates import TABLE_SIZE, describe_gate, gate_vectors, narrow_product
from kernels.host.entry import entry, inner, routine
from kernels.host.job import run_of_tokens, words
from kernels.host.simd import view_i32
from kernels.reference import FRACTION
from kernels.tables import SILU_RANGE, SILU_STEP_BITS

TABLE = types.Array(int32, 1, "C", readonly=True)
HALF = 1 << (FRACTION - 1)  # what rounds half up


@entry(void(int32[::1], int32[::1], TABLE, int32[::1]))
def geglu(gate, up, table, out):
    geglu_one(gate, up, table, out)


@inner
def geglu_one(gate, up, table, out):
    limit = np.int64(SILU_RANGE << FRACTION)
    for i in range(gate.size):
        g = np.int64(gate[i])
        offset = min(max(g + limit, 0), 2 * limit - 1)
        index, rest = offset >> SILU_STEP_BITS, offset & ((1 << SILU_STEP_BITS) - 1)
        low, high = np.int64(table[index]), np.int64(table[index + 1])
        value = low + (((high - low) * rest + (1 << (SILU_STEP_BITS - 1))) >> SILU_STEP_BITS)
        value = g if g >= limit else value
        value = 0 if g < -limit else value
        out[i] = saturate_int32((value * np.int64(up[i]) + HALF) >> FRACTION)


@entry(void(int32[::1], int32[::1], int32[::1]))
def relu2_glu(gate, up, out):
    relu2_one(gate, up, out)


@inner
def relu2_one(gate, up, out):
    for i in range(gate.size):
        positive = max(np.int64(gate[i]), 0)
        square = np.int64(saturate_int32((positive * positive + HALF) >> FRACTION))
        out[i] = saturate_int32((square * np.int64(up[i]) + HALF) >> FRACTION)


@entry(
    void(
        int64[::1], int32[:, ::1], int32[:, ::1], TABLE, int64, int32[::1], int8[:, ::1],
        int32[:, ::1],
    ),
)  # fmt: skip
def geglu_narrow(job, gate, up, table, block, constant, x, scale):
    describe_gate(job, gate, up, block, constant, x, scale)
    job[TABLE_AT], job[TABLE_SIZE] = table.ctypes.data, table.size


@routine
def geglu_narrow_tokens(address, chunk, scratch):
    job = words(address)
    table = view_i32(job[TABLE_AT], job[TABLE_SIZE])
    first, last = run_of_tokens(job, chunk)
    for t in range(first, last):
        gate, up, product = gate_vectors(job, t, scratch)
        geglu_one(gate, up, table, product)
        narrow_product(job, t, scratch)


@entry(
    "void(int64[::1], int32[:, ::1], int32[:, ::1], int64, int32[::1], int8[:, ::1], int32[:, ::1])"
)
def relu2_narrow(job, gate, up, block, constant, x, scale):
    describe_gate(job, gate, up, block, constant, x, scale)


@routine
def relu2_narrow_tokens(address, chunk, scratch):
    job = words(address)
    first, last = run_of_tokens(job, chunk)
    for t in range(first, last):
        gate, up, product = gate_vectors(job, t, scratch)
        relu2_one(gate, up, product)
        narrow_product(job, t, scratch)

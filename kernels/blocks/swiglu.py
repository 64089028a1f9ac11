"""SwiGLU and its narrowing to int8, compiled. Twins in `kernels.reference`."""

from __future__ import annotations

import numpy as np

from kernels.arith import saturate_int32
from kernels.blocks.gates import describe_gate, gate_vectors, narrow_product
from kernels.host.entry import entry, inner, routine
from kernels.host.job import run_of_tokens, words
from kernels.host.simd import inline
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


@inner
def swiglu_one(gate, up, out):
    for i in range(gate.size):
        out[i] = silu_product(gate[i], up[i])


@entry("void(int32[::1], int32[::1], int32[::1])")
def swiglu(gate, up, out):
    """The product alone, which the datapath narrows at once."""
    swiglu_one(gate, up, out)


@entry(
    "void(int64[::1], int32[:, ::1], int32[:, ::1], int64, int32[::1], int8[:, ::1], int32[:, ::1])"
)
def swiglu_narrow(job, gate, up, block, constant, x, scale):
    describe_gate(job, gate, up, block, constant, x, scale)


@routine
def swiglu_narrow_tokens(address, chunk, scratch):
    job = words(address)
    first, last = run_of_tokens(job, chunk)
    for t in range(first, last):
        gate, up, product = gate_vectors(job, t, scratch)
        swiglu_one(gate, up, product)
        narrow_product(job, t, scratch)

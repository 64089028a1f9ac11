"""What the jobs of all gates have in common: two vectors to a product, then int8 behind R4."""

from __future__ import annotations

from kernels.host.entry import inner
from kernels.host.job import OF_TOKENS, share_tokens
from kernels.host.simd import view_i32
from kernels.narrow import rotate_narrow_one

GATE, UP, N, BLOCK, CONSTANT, X, SCALE, TABLE, TABLE_SIZE = range(OF_TOKENS, OF_TOKENS + 9)


def scratch_bytes(width: int) -> int:
    return 8 * width  # the product, and what is rotated


@inner
def describe_gate(job, gate, up, block, constant, x, scale):
    """gate, up int32[T, n] -> x int8[T, n]."""
    share_tokens(job, gate.shape[0])
    job[GATE], job[UP], job[N] = gate.ctypes.data, up.ctypes.data, gate.shape[1]
    job[BLOCK], job[CONSTANT] = block, constant.ctypes.data
    job[X], job[SCALE] = x.ctypes.data, scale.ctypes.data


@inner
def gate_vectors(job, t, scratch):
    """Gate and up of token t, and where their product goes."""
    n = job[N]
    at = 4 * t * n
    return view_i32(job[GATE] + at, n), view_i32(job[UP] + at, n), view_i32(scratch, n)


@inner
def narrow_product(job, t, scratch):
    n = job[N]
    constant, x, scale = view_i32(job[CONSTANT], 2), job[X] + t * n, job[SCALE] + 8 * t
    rotate_narrow_one(scratch, n, job[BLOCK], constant, x, scale, scratch + 4 * n)

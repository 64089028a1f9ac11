"""A job: what the team does next, in words that its threads read by address.

A job names two compiled functions by address. One thread first calls PREPARE, if there is one; then
whoever is free calls CHUNK for one chunk after another. What the other words mean is the job's own.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic

from kernels.host.entry import inner
from kernels.host.simd import view_i64

JOB_WORDS = 64
PREPARE, CHUNK, CHUNKS, THREADS, OWN = range(5)  # THREADS: that share the job
TOKENS, A_CHUNK = OWN, OWN + 1  # of a job whose chunks are runs of tokens
OF_TOKENS = OWN + 2  # where such a job's own words begin

CHUNKS_A_THREAD = 2  # more share better, but each begins with cold memory


@intrinsic
def call(typing, address, job, number, memory):
    """Call the routine at an address."""

    def code(context, builder, signature, args):
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [word] * 3)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), code


@inner
def words(address):
    """The words of a job."""
    return view_i64(address, JOB_WORDS)


@inner
def run_of_tokens(job, chunk):
    """The first token of a chunk, and the one behind the last."""
    first = chunk * job[A_CHUNK]
    return first, min(first + job[A_CHUNK], job[TOKENS])


@inner
def share_tokens(job, tokens):
    """Cut so many tokens into chunks."""
    size = max(tokens // (CHUNKS_A_THREAD * job[THREADS]), 1)
    job[TOKENS], job[A_CHUNK] = tokens, size
    job[CHUNKS] = (tokens + size - 1) // size

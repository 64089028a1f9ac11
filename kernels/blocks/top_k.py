"""The search for the k largest logits, compiled. Twin in `kernels.reference`."""

from __future__ import annotations

from kernels.host.entry import entry, inner, routine
from kernels.host.job import OF_TOKENS, share_tokens, words
from kernels.host.simd import view_i32, view_i64

RUN = 128  # logits

LOGITS, SIZE, INDICES, K = range(OF_TOKENS, OF_TOKENS + 4)


@entry("void(int64[::1], int32[::1], int64[::1])")
def top_k(job, logits, indices):
    share_tokens(job, 1)
    job[LOGITS], job[SIZE] = logits.ctypes.data, logits.size
    job[INDICES], job[K] = indices.ctypes.data, indices.size


@routine
def top_k_search(address, chunk, scratch):
    job = words(address)
    search(view_i32(job[LOGITS], job[SIZE]), view_i64(job[INDICES], job[K]))


@inner
def search(logits, indices):
    """A k-entry sorter fed one logit after another, as the chip's is.

    Runs of logits that are all below the k-th are passed over.
    """
    k, filled = indices.size, 0
    for begin in range(0, logits.size, RUN):
        end = min(begin + RUN, logits.size)
        if filled == k:
            largest = logits[begin]
            for i in range(begin, end):
                largest = max(largest, logits[i])
            if largest <= logits[indices[k - 1]]:
                continue
        for i in range(begin, end):
            place = filled
            while place > 0 and logits[indices[place - 1]] < logits[i]:
                place -= 1
            if place == k:
                continue
            for j in range(min(filled, k - 1), place, -1):
                indices[j] = indices[j - 1]
            indices[place] = i
            filled = min(filled + 1, k)

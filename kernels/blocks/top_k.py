"""The search for the k largest logits, compiled. Twin in `kernels.reference`."""

from __future__ import annotations

from kernels.host.entry import entry

RUN = 128  # logits


@entry("void(int32[::1], int64[::1])")
def top_k(logits, indices):
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

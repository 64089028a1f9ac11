"""Philox 4x32-10, a counter-based random generator (Salmon et al., SC'11).

A draw depends on counter and key alone, so position p of a sequence gets the same bits on every
host, in whatever order positions are computed.
"""

from __future__ import annotations

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio and sqrt(3) - 1, added to the key each round
MASK = 0xFFFFFFFF

Counter = tuple[int, int, int, int]  # four words of 32 bits


def philox(counter: Counter, key: tuple[int, int]) -> Counter:
    """Four random words of 32 bits for a counter of four and a key of two."""
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        p, q = MULTIPLIERS[0] * a, MULTIPLIERS[1] * c
        a, b, c, d = (q >> 32) ^ b ^ k0, q & MASK, (p >> 32) ^ d ^ k1, p & MASK
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return a, b, c, d

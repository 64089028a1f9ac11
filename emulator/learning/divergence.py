"""Loops over the logits of each token: the KL divergence and its gradient, and a drawn token."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from emulator.learning.bits16 import exponentials, narrow, widen

Bits16 = NDArray[np.uint16]
LEAST = np.float32(-80)  # of a logit below the row's largest


def divergence(wanted: Bits16, given: Bits16, weight: float) -> NDArray[np.float32]:
    """KL in nats of each row, float32[rows]; `given` becomes the loss's gradient by its logits.

    Both are logits uint16[rows, vocabulary], bits of bfloat16. The loss is `weight` times the sum
    of the rows' KL. Its gradient is weight (q - p), p of the wanted logits and q of the given.
    """
    kl = np.empty(len(wanted), np.float32)
    _divergence(wanted, given, np.float32(weight), kl)
    return kl


@njit(cache=True, nogil=True)
def _divergence(wanted, given, weight, kl):
    rows, n = wanted.shape
    p, q, difference = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
    for r in range(rows):
        widen(wanted[r], p)
        widen(given[r], q)
        most_p, most_q = _largest(p), _largest(q)
        for i in range(n):
            p[i] -= most_p
            q[i] -= most_q
            difference[i] = p[i] - q[i]
        exponentials(p, LEAST)
        exponentials(q, LEAST)
        sum_p, sum_q, cross = _sums(p, q, difference)
        kl[r] = cross / sum_p - np.log(sum_p) + np.log(sum_q)
        a, b = weight / np.float32(sum_q), weight / np.float32(sum_p)
        for i in range(n):
            q[i] = q[i] * a - p[i] * b
        narrow(q, given[r])


def draw(
    logits: Bits16, chance: NDArray[np.float32], loud: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Draw a token of each row; `logits` become `loud` times the gradient of -ln p(token) by them.

    Logits are uint16[rows, vocabulary], bits of bfloat16, `chance` is in [0, 1), and float32[rows]
    that comes back is 1 less the sum of p**2: how much there was to draw from.
    """
    spread = np.empty(len(logits), np.float32)
    _draw(logits, chance, loud, spread)
    return spread


@njit(cache=True, nogil=True)
def _draw(logits, chance, loud, spread):
    rows, n = logits.shape
    p = np.empty(n, np.float32)
    for r in range(rows):
        widen(logits[r], p)
        most = _largest(p)
        for i in range(n):
            p[i] -= most
        exponentials(p, LEAST)
        total = _sums(p, p, p)[0]
        wanted, passed, token = np.float64(chance[r]) * total, 0.0, n - 1
        for i in range(n):
            passed += p[i]
            if passed > wanted:
                token = i
                break
        squares = np.float32(0)
        for i in range(n):
            p[i] /= np.float32(total)
            squares += p[i] * p[i]
        spread[r] = np.float32(1) - squares
        p[token] -= np.float32(1)
        for i in range(n):
            p[i] *= loud[r]
        narrow(p, logits[r])


@njit(cache=True, nogil=True)
def _largest(x):
    lanes = np.full(16, -np.inf, np.float32)
    whole = x.size // 16 * 16
    for i in range(0, whole, 16):
        for j in range(16):
            lanes[j] = max(lanes[j], x[i + j])
    most = lanes.max()
    for i in range(whole, x.size):
        most = max(most, x[i])
    return most


@njit(cache=True, nogil=True)
def _sums(p, q, difference):
    """Sums of p, q and p times the difference, 16 lanes side by side."""
    lanes = np.zeros((3, 16), np.float32)
    whole = p.size // 16 * 16
    for i in range(0, whole, 16):
        for j in range(16):
            lanes[0, j] += p[i + j]
            lanes[1, j] += q[i + j]
            lanes[2, j] += p[i + j] * difference[i + j]
    sums = np.zeros(3)
    for k in range(3):
        for j in range(16):
            sums[k] += np.float64(lanes[k, j])
    for i in range(whole, p.size):
        sums[0] += p[i]
        sums[1] += q[i]
        sums[2] += p[i] * difference[i]
    return sums[0], sums[1], sums[2]

"""From q, k and v side by side to turned heads, and back, each in one walk over memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.autograd import Function

from emulator.learning.bits16 import narrow, raw, widen


class Heads(Function):
    """bfloat16[B T, (heads + 2 kv_heads) d] -> q, k, v, each [B, heads, T, d], q and k turned.

    Heads that share a k and a v get a copy each. `turns` are cosine and sine, float32[2, T, d / 2].
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, sequences: int, heads: int, turns: Tensor
    ) -> tuple[Tensor, ...]:
        length, d = turns.shape[1], 2 * turns.shape[2]
        kv_heads = (qkv.shape[1] // d - heads) // 2
        out = [qkv.new_empty(sequences, heads, length, d) for _ in range(3)]
        ctx.shape, ctx.turns, ctx.kv_heads = qkv.shape, turns, kv_heads
        given, table, found = raw(qkv), turns.numpy(), tuple(map(raw, out))
        _forward(given, table, kv_heads, found)
        return tuple(out)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        result = torch.empty(ctx.shape, dtype=torch.bfloat16)
        pulls = tuple(raw(pull.contiguous()) for pull in gradients)
        found, table = raw(result), ctx.turns.numpy()
        _backward(pulls, table, ctx.kv_heads, found)
        return result, None, None, None


@njit(cache=True, nogil=True)
def _turn(x, cosine, sine):
    half = cosine.size
    for i in range(half):
        a, b = x[i], x[half + i]
        x[i] = a * cosine[i] - b * sine[i]
        x[half + i] = b * cosine[i] + a * sine[i]


@njit(cache=True, nogil=True)
def _forward(qkv, turns, kv_heads, out):
    q, k, v = out
    heads, length, d = q.shape[1:]
    shared = heads // kv_heads
    x = np.empty(d, np.float32)
    for row in range(len(qkv)):
        b, t = row // length, row % length
        for h in range(heads):
            widen(qkv[row, h * d : (h + 1) * d], x)
            _turn(x, turns[0, t], turns[1, t])
            narrow(x, q[b, h, t])
        for h in range(kv_heads):
            at = (heads + h) * d
            widen(qkv[row, at : at + d], x)
            _turn(x, turns[0, t], turns[1, t])
            at += kv_heads * d
            for other in range(h * shared, (h + 1) * shared):
                narrow(x, k[b, other, t])
                v[b, other, t] = qkv[row, at : at + d]


@njit(cache=True, nogil=True)
def _backward(pulls, turns, kv_heads, out):
    q, k, v = pulls
    heads, length, d = q.shape[1:]
    shared = heads // kv_heads
    x, some = np.empty(d, np.float32), np.empty(d, np.float32)
    back = np.empty(d // 2, np.float32)
    for row in range(len(out)):
        b, t = row // length, row % length
        for i in range(back.size):
            back[i] = -turns[1, t, i]
        for h in range(heads):
            widen(q[b, h, t], x)
            _turn(x, turns[0, t], back)
            narrow(x, out[row, h * d : (h + 1) * d])
        for h in range(kv_heads):
            at = (heads + h) * d
            for which, pull in enumerate((k, v)):
                x[:] = 0
                for other in range(h * shared, (h + 1) * shared):
                    widen(pull[b, other, t], some)
                    for i in range(d):
                        x[i] += some[i]
                if which == 0:
                    _turn(x, turns[0, t], back)
                narrow(x, out[row, at + which * kv_heads * d : at + which * kv_heads * d + d])

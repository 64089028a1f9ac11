"""SwiGLU and its backward, each in one walk: torch would make a dozen passes over memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch.autograd import Function

from emulator.learning.bits16 import exponentials, narrow, raw, widen

LEAST = np.float32(-80)


class SwiGlu(Function):
    """factor * silu(gate) * up, bfloat16[T, ffn], of gate and up side by side, [T, 2 ffn]."""

    @staticmethod
    def forward(ctx: Any, both: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.save_for_backward(both)
        ctx.factor = factor
        out = both.new_empty(len(both), both.shape[1] // 2)
        given, found = raw(both), raw(out)
        _forward(given, np.float32(factor), found)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (both,) = ctx.saved_tensors
        result = torch.empty_like(both)
        given, pull, found = raw(both), raw(gradients[0].contiguous()), raw(result)
        _backward(given, pull, np.float32(ctx.factor), found)
        return result, None


@njit(cache=True, nogil=True)
def _forward(both, factor, out):
    n = out.shape[1]
    line, e = np.empty(2 * n, np.float32), np.empty(n, np.float32)
    for r in range(out.shape[0]):
        widen(both[r], line)
        for i in range(n):
            e[i] = -abs(line[i])
        exponentials(e, LEAST)
        for i in range(n):
            top = np.float32(1) if line[i] >= 0 else e[i]
            e[i] = factor * line[i] * line[n + i] * top / (np.float32(1) + e[i])
        narrow(e, out[r])


@njit(cache=True, nogil=True)
def _backward(both, pull, factor, out):
    n = pull.shape[1]
    line, e, by = np.empty(2 * n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
    one = np.float32(1)
    for r in range(pull.shape[0]):
        widen(both[r], line)
        widen(pull[r], by)
        for i in range(n):
            e[i] = -abs(line[i])
        exponentials(e, LEAST)
        for i in range(n):
            sigmoid = (one if line[i] >= 0 else e[i]) / (one + e[i])
            silu, go = line[i] * sigmoid, factor * by[i]
            up = line[n + i]
            line[i] = go * up * (sigmoid + silu * (one - sigmoid))
            line[n + i] = go * silu
        narrow(line, out[r])

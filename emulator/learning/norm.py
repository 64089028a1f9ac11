"""RMSNorm without a gain and its backward, each in one walk over memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.autograd import Function

from emulator.learning.bits16 import ANY_ORDER, narrow, raw, widen


class Norm(Function):
    """float32[T, n] divided by its root mean square, bfloat16."""

    @staticmethod
    def forward(ctx: Any, r: Tensor, epsilon: float) -> Tensor:
        given = r.detach().contiguous().numpy()
        x, inverse = r.new_empty(r.shape, dtype=torch.bfloat16), np.empty(len(given), np.float32)
        found = raw(x)
        _forward(given, np.float32(epsilon), inverse, found)
        ctx.save_for_backward(x)
        ctx.inverse = inverse
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        out = torch.empty(x.shape)
        normed, pull, found = raw(x), raw(gradients[0].contiguous()), out.numpy()
        _backward(normed, pull, ctx.inverse, found)
        return out, None


@njit(cache=True, nogil=True, fastmath=ANY_ORDER)
def _forward(r, epsilon, inverse, out):
    rows, n = r.shape
    x = np.empty(n, np.float32)
    for row in range(rows):
        total = np.float32(0)
        for i in range(n):
            total += r[row, i] * r[row, i]
        inverse[row] = np.float32(1) / np.sqrt(total / np.float32(n) + epsilon)
        for i in range(n):
            x[i] = r[row, i] * inverse[row]
        narrow(x, out[row])


@njit(cache=True, nogil=True, fastmath=ANY_ORDER)
def _backward(normed, pull, inverse, out):
    rows, n = out.shape
    x, p = np.empty(n, np.float32), np.empty(n, np.float32)
    for row in range(rows):
        widen(normed[row], x)
        widen(pull[row], p)
        along = np.float32(0)
        for i in range(n):
            along += p[i] * x[i]
        along /= np.float32(n)
        for i in range(n):
            out[row, i] = (p[i] - x[i] * along) * inverse[row]

"""The compiled kernels behind the same functions, with the same results, as the NumPy twins.

Each function allocates its outputs and calls one kernel. Documentation, shapes and meaning:
`kernels.reference`.
"""

from __future__ import annotations

import numpy as np

from kernels import attention as _attention
from kernels import elementwise as _elementwise
from kernels import fabric as _fabric
from kernels import norm as _norm
from kernels.pack import PackedMatrix
from kernels.reference import Int8, Int16, Int32, Int64


def _parts(m: PackedMatrix) -> tuple:
    return m.codes, m.group_scale, m.row_mantissa, m.row_exponent, m.alphabet, m.bits, m.group


def _int8_like(v: np.ndarray) -> tuple[Int8, Int32]:
    return np.empty(v.shape, np.int8), np.empty((*v.shape[:-1], 2), np.int32)


def _vectors(*arrays: np.ndarray) -> list[np.ndarray]:
    """The same arrays with all leading axes as one: [vectors, n]."""
    return [a.reshape(-1, a.shape[-1]) for a in arrays]


def lookup(matrix: PackedMatrix, rows: Int64) -> Int32:
    out = np.empty((rows.size, matrix.columns), np.int32)
    _fabric.lookup(*_parts(matrix), rows, out)
    return out


def fabric(matrix: PackedMatrix, x: Int8, scale: Int32) -> Int32:
    out = np.empty((x.shape[0], matrix.rows), np.int32)
    _fabric.fabric(*_parts(matrix), x, scale, out)
    return out


def narrow(v: Int32, constant: Int32) -> tuple[Int8, Int32]:
    x, scale = _int8_like(v)
    _norm.narrow(*_vectors(v), constant, *_vectors(x, scale))
    return x, scale


def rotate_narrow(v: Int32, block: int, constant: Int32) -> tuple[Int8, Int32]:
    x, scale = _int8_like(v)
    _norm.rotate_narrow(*_vectors(v), block, constant, *_vectors(x, scale))
    return x, scale


def rms_norm(residual: Int32, epsilon: int, constant: Int32) -> tuple[Int8, Int32]:
    x, scale = _int8_like(residual)
    _norm.rms_norm(residual, epsilon, constant, x, scale)
    return x, scale


def gain_norm(
    residual: Int32, gain: Int16, mixer: Int16, epsilon: int, constant: Int32
) -> tuple[Int8, Int32]:
    x, scale = _int8_like(residual)
    _norm.gain_norm(residual, gain, mixer, epsilon, constant, x, scale)
    return x, scale


def rope(v: Int32, positions: Int64, cosine: Int16, sine: Int16) -> Int32:
    out = np.empty_like(v)
    _attention.rope(v, positions, cosine, sine, out)
    return out


def attention(
    q: Int8, q_scale: Int32, k: Int8, k_scale: Int32, v: Int8, v_scale: Int32, start: int
) -> Int32:
    out = np.empty(q.shape, np.int32)
    _attention.attention(q, q_scale, k, k_scale, v, v_scale, start, out)
    return out.reshape(q.shape[0], -1)


def swiglu(gate: Int32, up: Int32) -> Int32:
    out = np.empty(gate.shape, np.int32)
    _elementwise.swiglu(gate.reshape(-1), up.reshape(-1), out.reshape(-1))
    return out


def residual_add(residual: Int32, delta: Int32) -> Int32:
    out = np.empty(residual.shape, np.int32)
    _elementwise.residual_add(residual.reshape(-1), delta.reshape(-1), out.reshape(-1))
    return out


def top_k(logits: Int32, k: int) -> Int64:
    indices = np.empty(min(k, logits.size), np.int64)
    _elementwise.top_k(logits, indices)
    return indices

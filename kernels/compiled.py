"""The compiled kernels behind the same functions, with the same results, as the NumPy twins.

Each function allocates its outputs and calls one kernel. Documentation, shapes and meaning:
`kernels.reference`.
"""

from __future__ import annotations

import numpy as np

from kernels import cache as _cache
from kernels.pack import PackedMatrix
from kernels.reference import Int8, Int16, Int32, Int64

with _cache.filling():
    from kernels import attention as _attention
    from kernels import elementwise as _elementwise
    from kernels import fabric as _fabric
    from kernels import jobs as _jobs
    from kernels import norm as _norm
    from kernels.team import Team

TEAM = Team(_jobs.serve)


def _int8_like(v: np.ndarray) -> tuple[Int8, Int32]:
    return np.empty(v.shape, np.int8), np.empty((*v.shape[:-1], 2), np.int32)


def _vectors(*arrays: np.ndarray) -> list[np.ndarray]:
    """The same arrays with all leading axes as one: [vectors, n]."""
    return [a.reshape(-1, a.shape[-1]) for a in arrays]


def lookup(matrix: PackedMatrix, rows: Int64) -> Int32:
    out = np.empty((rows.size, matrix.columns), np.int32)
    _fabric.lookup_rows(matrix.wiring, rows, out)
    return out


def fabric(matrices: tuple[PackedMatrix, ...], x: Int8, scale: Int32) -> list[Int32]:
    tokens, columns = x.shape
    out = np.empty(tokens * sum([m.rows for m in matrices]), np.int32)
    first, second, third = [m.wiring for m in (matrices * 3)[:3]]
    own, common = _fabric.SCRATCH_BYTES, tokens * columns // 8
    TEAM.run(_jobs.fabric, own, common, first, second, third, len(matrices), x, scale, out)
    results, begin = [], 0
    for m in matrices:
        end = begin + tokens * m.rows
        results.append(out[begin:end].reshape(tokens, m.rows))
        begin = end
    return results


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
    if len(x) == 1:
        _norm.rms_norm(residual, epsilon, constant, x, scale)
    else:
        own = 4 * x.shape[1]
        TEAM.run(_jobs.rms_norm, own, 0, residual, epsilon, constant, x, scale)
    return x, scale


def gain_norm(
    residual: Int32, gain: Int16, mixer: Int16, epsilon: int, constant: Int32
) -> tuple[Int8, Int32]:
    x, scale = _int8_like(residual)
    _norm.gain_norm(residual, gain, mixer, epsilon, constant, x, scale)
    return x, scale


def rope(v: Int32, start: int, cosine: Int16, sine: Int16) -> Int32:
    out = np.empty_like(v)
    _attention.rope(v, start, cosine, sine, out)
    return out


def kv_write(
    q: Int32,
    k: Int32,
    v: Int32,
    constants: Int32,
    start: int,
    k_sram: Int8,
    k_scale: Int32,
    v_sram: Int8,
    v_scale: Int32,
) -> tuple[Int8, Int32]:
    q8, q8_scale = _int8_like(q)
    args = (q, k, v, constants, start, k_sram, k_scale, v_sram, v_scale, q8, q8_scale)
    if len(q) == 1:
        _norm.kv_write(*args)
    else:
        TEAM.run(_jobs.kv_write, 4 * q.shape[2], 0, *args)
    return q8, q8_scale


def attention(
    q: Int8, q_scale: Int32, k: Int8, k_scale: Int32, v: Int8, v_scale: Int32, start: int
) -> Int32:
    out = np.empty(q.shape, np.int32)
    tokens, heads, head_dim = q.shape
    shared = heads // k.shape[1]  # query heads per KV head
    span = shared if tokens * k.shape[1] >= 4 * TEAM.threads else 1
    own = _attention.scratch_bytes(span, start + tokens, head_dim)
    TEAM.run(_jobs.attention, own, 0, q, q_scale, k, k_scale, v, v_scale, start, span, out)
    return out.reshape(tokens, -1)


def swiglu(gate: Int32, up: Int32) -> Int32:
    out = np.empty(gate.shape, np.int32)
    _elementwise.swiglu(gate.reshape(-1), up.reshape(-1), out.reshape(-1))
    return out


def swiglu_narrow(gate: Int32, up: Int32, block: int, constant: Int32) -> tuple[Int8, Int32]:
    x, scale = _int8_like(gate)
    if len(x) == 1:
        _elementwise.swiglu_narrow(gate, up, block, constant, x, scale)
    else:
        own = 8 * x.shape[1]
        TEAM.run(_jobs.swiglu_narrow, own, 0, gate, up, block, constant, x, scale)
    return x, scale


def residual_add(residual: Int32, delta: Int32) -> Int32:
    out = np.empty(residual.shape, np.int32)
    if len(out) == 1:
        _elementwise.residual_add(residual[0], delta[0], out[0])
    else:
        addends = np.ascontiguousarray(residual), np.ascontiguousarray(delta)
        TEAM.run(_jobs.residual_add, 0, 0, *addends, out)
    return out


def top_k(logits: Int32, k: int) -> Int64:
    indices = np.empty(min(k, logits.size), np.int64)
    _elementwise.top_k(logits, indices)
    return indices

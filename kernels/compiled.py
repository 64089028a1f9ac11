"""The compiled kernels behind the same functions, with the same results, as the NumPy twins.

Each function allocates its outputs and calls one kernel. Documentation, shapes and meaning:
`kernels.reference`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from kernels import narrow as _narrow
from kernels import recording as _recording
from kernels.blocks import attention as _attention
from kernels.blocks import bias_add as _bias_add
from kernels.blocks import embedding as _embedding
from kernels.blocks import gates as _gates
from kernels.blocks import head_norm as _head_norm
from kernels.blocks import kv_sram as _kv_sram
from kernels.blocks import lora as _lora
from kernels.blocks import other_gates as _other_gates
from kernels.blocks import residual_add as _residual_add
from kernels.blocks import rms_norm as _rms_norm
from kernels.blocks import rope as _rope
from kernels.blocks import swiglu as _swiglu
from kernels.blocks import top_k as _top_k
from kernels.blocks import weight_fabric as _weight_fabric
from kernels.host import cache as _cache
from kernels.host.entry import Routine
from kernels.host.job import JOB_WORDS
from kernels.host.team import Team
from kernels.reference import ALL_POSITIONS, Int8, Int16, Int32, Int64
from kernels.rom.pack import PackedMatrix
from kernels.sram_matrix import SramMatrix, SramPass

_cache.load()

VECTOR = 32  # int8 values that the attention kernel loads at once


@functools.cache
def team() -> Team:
    """The process's threads, which share every job; made at the first use."""
    return Team()


def record() -> AbstractContextManager[_recording.Recording]:
    """What this thread calls inside is also kept, to be done again with the same arrays."""
    return _recording.Recording.made_by(team())


def _do(
    set_up: Callable[..., None],
    routine: Routine,
    *arguments: Any,
    own: int = 0,
    common: int = 0,
    prepare: Routine | None = None,
) -> None:
    """One job: `set_up` writes what `routine`, and before it `prepare`, will find in its words.

    `own` bytes of memory for each thread, `common` for all.
    """
    job, threads = np.empty(JOB_WORDS, np.int64), team()
    job[:4] = prepare.address if prepare else 0, routine.address, 0, threads.threads
    set_up(job, *arguments)
    threads.run(job, 1, own, common)
    if (recording := _recording.now_recording()) is not None:
        recording.add(job, own, common, arguments)


def _int8_like(v: np.ndarray) -> tuple[Int8, Int32]:
    return np.empty(v.shape, np.int8), np.empty((*v.shape[:-1], 2), np.int32)


def _vectors(*arrays: np.ndarray) -> list[np.ndarray]:
    """The same arrays with all leading axes as one: [vectors, n]."""
    return [a.reshape(-1, a.shape[-1]) for a in arrays]


def lookup(matrix: PackedMatrix, rows: Int64) -> Int32:
    out = np.empty((rows.size, matrix.columns), np.int32)
    _do(_embedding.lookup, _embedding.lookup_tokens, matrix.wiring, rows, out)
    return out


def fabric(matrices: tuple[PackedMatrix, ...], x: Int8, scale: Int32) -> list[Int32]:
    tokens = len(x)
    out = np.empty(tokens * sum([m.rows for m in matrices]), np.int32)
    _fabric_job(_weight_fabric.fabric, matrices, x, scale, out)
    return _split(out, tokens, matrices)


def fabric_sums(matrices: tuple[PackedMatrix, ...], x: Int8) -> Int64:
    out = np.empty((len(x), sum([m.rows for m in matrices])), np.int64)
    _fabric_job(_weight_fabric.fabric_sums, matrices, x, out)
    return out


def _fabric_job(
    set_up: Callable[..., None], matrices: tuple[PackedMatrix, ...], x: Int8, *more: np.ndarray
) -> None:
    spare = _weight_fabric.MOST_MATRICES - len(matrices)
    if spare < 0:
        most = _weight_fabric.MOST_MATRICES
        raise ValueError(f"{len(matrices)} matrices in one pass; at most {most}")
    _do(
        set_up,
        _weight_fabric.fabric_tiles,
        *[m.wiring for m in (*matrices, *matrices[:1] * spare)],
        len(matrices),
        x,
        *more,
        own=_weight_fabric.SCRATCH_BYTES,
        common=_weight_fabric.common_bytes(*x.shape),
        prepare=_weight_fabric.fabric_prepare,
    )


def _split(
    out: Int32, tokens: int, matrices: tuple[PackedMatrix, ...] | tuple[SramMatrix, ...]
) -> list[Int32]:
    """Outputs one after another -> of each matrix, [T, rows]."""
    results, begin = [], 0
    for m in matrices:
        end = begin + tokens * m.rows
        results.append(out[begin:end].reshape(tokens, m.rows))
        begin = end
    return results


def lora(side: SramPass, x: Int8, scale: Int32, sums: Int64) -> list[Int32]:
    out = np.empty(sums.size, np.int32)
    _do(
        _lora.lora,
        _lora.lora_chunk,
        side.wiring,
        x,
        scale,
        sums,
        out,
        own=_lora.scratch_bytes(side.most_rows),
        common=_lora.scratch_bytes(0) * len(side.matrices),
        prepare=_lora.lora_prepare,
    )
    return _split(out, len(x), side.matrices)


def narrow(v: Int32, constant: Int32) -> tuple[Int8, Int32]:
    return rotate_narrow(v, 0, constant)


def rotate_narrow(v: Int32, block: int, constant: Int32) -> tuple[Int8, Int32]:
    x, scale = _int8_like(v)
    own = 4 * v.shape[-1]
    to = _vectors(x, scale)
    _do(_narrow.narrow, _narrow.narrow_vectors, *_vectors(v), block, constant, *to, own=own)
    return x, scale


def rms_norm(residual: Int32, epsilon: int, constant: Int32) -> tuple[Int8, Int32]:
    x, scale = _int8_like(residual)
    args = residual, epsilon, constant, x, scale
    _do(_rms_norm.rms_norm, _rms_norm.rms_norm_tokens, *args, own=4 * x.shape[1])
    return x, scale


def gain_norm(
    residual: Int32, gain: Int16, mixer: Int16, epsilon: int, constant: Int32
) -> tuple[Int8, Int32]:
    x, scale = _int8_like(residual)
    args = residual, gain, mixer, epsilon, constant, x, scale
    own = _rms_norm.gain_scratch_bytes(x.shape[1])
    _do(_rms_norm.gain_norm, _rms_norm.gain_norm_tokens, *args, own=own)
    return x, scale


def head_norm(v: Int32, gain: Int16, epsilon: int, constant: Int32) -> Int32:
    out = np.empty(v.shape, np.int32)
    args = *_vectors(v), gain, epsilon, constant, *_vectors(out)
    _do(_head_norm.head_norm, _head_norm.head_norm_heads, *args, own=4 * v.shape[-1])
    return out


def bias_add(v: Int32, bias: Int32) -> Int32:
    out = np.empty(v.shape, np.int32)
    _do(_bias_add.bias_add, _bias_add.bias_add_tokens, v, bias, out)
    return out


def rope(v: Int32, positions: Int64, cosine: Int16, sine: Int16) -> Int32:
    turning = 2 * cosine.shape[1]
    if turning < v.shape[2]:  # the kernel turns whole heads
        _cannot_record()
        turned = rope(np.ascontiguousarray(v[..., :turning]), positions, cosine, sine)
        return np.concatenate([turned, v[..., turning:]], axis=2)
    out = np.empty_like(v)
    _do(_rope.rope, _rope.rope_tokens, v, positions, cosine, sine, out)
    return out


def _cannot_record() -> None:
    """Called by what is not jobs alone."""
    if (recording := _recording.now_recording()) is not None:
        recording.whole = False


def kv_write(
    q: Int32,
    k: Int32,
    v: Int32,
    constants: Int32,
    rows: Int64,
    k_sram: Int8,
    k_scale: Int32,
    v_sram: Int8,
    v_scale: Int32,
) -> tuple[Int8, Int32]:
    q8, q8_scale = _int8_like(q)
    args = (q, k, v, constants, rows, k_sram, k_scale, v_sram, v_scale, q8, q8_scale)
    _do(_kv_sram.kv_write, _kv_sram.kv_write_tokens, *args, own=4 * q.shape[2])
    return q8, q8_scale


def attention(
    q: Int8,
    q_scale: Int32,
    k: Int8,
    k_scale: Int32,
    v: Int8,
    v_scale: Int32,
    positions: Int64,
    rows: Int64,
    window: int = ALL_POSITIONS,
) -> Int32:
    tokens, heads, head_dim = q.shape
    seen = np.minimum(positions + 1, window)  # positions that a token attends to
    if head_dim % VECTOR:
        _cannot_record()
        # The kernel loads whole vectors: zeros fill the last, here in a copy.
        spans = zip(rows + 1 - seen, rows + 1, strict=True)
        needed = np.unique(np.concatenate([np.arange(first, end) for first, end in spans]))
        padding = ((0, 0), (0, 0), (0, -head_dim % VECTOR))
        held = (np.pad(array[needed], padding) for array in (k, v))
        scales = (array[needed] for array in (k_scale, v_scale))
        (k, v), (k_scale, v_scale) = held, scales
        padded = np.pad(q, padding), q_scale, k, k_scale, v, v_scale
        whole = attention(*padded, positions, np.searchsorted(needed, rows), window)
        whole = whole.reshape(tokens, heads, -1)
        return np.ascontiguousarray(whole[..., :head_dim]).reshape(tokens, -1)
    out = np.empty(q.shape, np.int32)
    # A recorded token's memory has to do for later ones.
    most = int(seen.max()) if _recording.now_recording() is None else min(len(k), window)
    args = q, q_scale, k, k_scale, v, v_scale, positions, rows, window, out
    _do(
        _attention.attention,
        _attention.attention_chunk,
        *args,
        own=_attention.own_bytes(tokens, most, heads, k.shape[1], head_dim),
        common=_attention.common_bytes(tokens, most, heads, head_dim),
        prepare=_attention.attention_prepare,
    )
    return out.reshape(tokens, -1)


def swiglu(gate: Int32, up: Int32) -> Int32:
    out = np.empty(gate.shape, np.int32)
    _swiglu.swiglu(gate.reshape(-1), up.reshape(-1), out.reshape(-1))
    return out


def swiglu_narrow(gate: Int32, up: Int32, block: int, constant: Int32) -> tuple[Int8, Int32]:
    return _gate(_swiglu.swiglu_narrow, _swiglu.swiglu_narrow_tokens, gate, up, block, constant)


def _gate(
    set_up: Callable[..., None], routine: Routine, gate: Int32, *more: Any
) -> tuple[Int8, Int32]:
    x, scale = _int8_like(gate)
    _do(set_up, routine, gate, *more, x, scale, own=_gates.scratch_bytes(x.shape[1]))
    return x, scale


def geglu(gate: Int32, up: Int32, table: Int32) -> Int32:
    out = np.empty(gate.shape, np.int32)
    _other_gates.geglu(gate.reshape(-1), up.reshape(-1), table, out.reshape(-1))
    return out


def geglu_narrow(
    gate: Int32, up: Int32, table: Int32, block: int, constant: Int32
) -> tuple[Int8, Int32]:
    kernels = _other_gates.geglu_narrow, _other_gates.geglu_narrow_tokens
    return _gate(*kernels, gate, up, table, block, constant)


def relu2_glu(gate: Int32, up: Int32) -> Int32:
    out = np.empty(gate.shape, np.int32)
    _other_gates.relu2_glu(gate.reshape(-1), up.reshape(-1), out.reshape(-1))
    return out


def relu2_narrow(gate: Int32, up: Int32, block: int, constant: Int32) -> tuple[Int8, Int32]:
    kernels = _other_gates.relu2_narrow, _other_gates.relu2_narrow_tokens
    return _gate(*kernels, gate, up, block, constant)


def residual_add(residual: Int32, delta: Int32) -> Int32:
    out = np.empty(residual.shape, np.int32)
    addends = np.ascontiguousarray(residual), np.ascontiguousarray(delta)
    _do(_residual_add.residual_add, _residual_add.residual_add_tokens, *addends, out)
    return out


def top_k(logits: Int32, k: int) -> Int64:
    indices = np.empty(min(k, logits.size), np.int64)
    _do(_top_k.top_k, _top_k.top_k_search, logits, indices)
    return indices

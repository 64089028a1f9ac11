"""The NumPy twins: this file defines every bit of the datapath.

Each function here has a compiled counterpart of the same name in `kernels.compiled`, pinned to
it by tests. Arithmetic is int64 throughout; results are stored at the width the chip has.

Signals: an int32 signal is Q15.16 (value * 2**16). An int8 vector x travels with its scale,
int32[..., 2] = (mantissa, exponent); its value is x * mantissa * 2**-exponent, where the
mantissa has 16 bits (2**15 .. 2**16 - 1), or is 0 for a vector of zeros.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.integers import (
    FRACTION,
    INT8_MAX,
    RECIPROCAL_BITS,
    ZERO_EXPONENT,
    Int8,
    Int16,
    Int32,
    Int64,
    bit_length,
    hadamard,
    integer_sqrt,
    multiply_scales,
    narrow,
    normalise,
    requantise,
    rotate_narrow,
    round_shift,
    saturate_int32,
    to_int8,
    to_int16,
)
from kernels.rom.pack import PackedMatrix, unpack_codes, untile_rows
from kernels.sram_matrix import SramPass
from kernels.tables import (
    EXP2_BITS,
    SILU_RANGE,
    SILU_STEP_BITS,
    exp2_table,
    silu_table,
)

__all__ = [  # of `kernels.integers`, a part of the specification
    "FRACTION",
    "INT8_MAX",
    "RECIPROCAL_BITS",
    "ZERO_EXPONENT",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "bit_length",
    "hadamard",
    "integer_sqrt",
    "multiply_scales",
    "narrow",
    "normalise",
    "requantise",
    "rotate_narrow",
    "round_shift",
    "saturate_int32",
    "to_int8",
    "to_int16",
]

Q1_14 = 14  # fractional bits of the rotary tables and of the residual mixer
SCORE_FRACTION = 8  # fractional bits of an attention score, in log2 units
SUM_RECIPROCAL_BITS = 46  # of 1 / sum of probabilities
LARGEST_ADDED = 1 << 44  # that an adapter's product adds to an accumulator

EXP2 = exp2_table()
SILU = silu_table()


# --- blocks ---------------------------------------------------------------------------------


def levels(matrix: PackedMatrix) -> Int64:
    """int64[rows, columns]: alphabet[code] * group scale, the integers a row adds up."""
    alphabet = matrix.alphabet.astype(np.int64)
    level = alphabet[unpack_codes(matrix.codes, matrix.rows, matrix.bits)]
    scale = untile_rows(matrix.group_scale, matrix.rows).astype(np.int64)
    return level * np.repeat(scale, matrix.group, axis=1)


def row_scales(matrix: PackedMatrix) -> Int32:
    """int32[rows, 2]: row scales as (mantissa, exponent)."""
    return np.stack([matrix.row_mantissa, matrix.row_exponent], axis=-1).astype(np.int32)


def lookup(matrix: PackedMatrix, rows: Int64) -> Int32:
    """int64[T] row numbers -> those rows of the matrix as Q15.16, int32[T, columns]."""
    scale = row_scales(matrix)[rows].astype(np.int64)
    shift = scale[:, 1] - FRACTION
    return saturate_int32(round_shift(levels(matrix)[rows] * scale[:, :1], shift[:, None]))


def fabric(matrices: tuple[PackedMatrix, ...], x: Int8, scale: Int32) -> list[Int32]:
    """Matrices times int8[T, columns] with scale int32[T, 2] -> of each, Q15.16 int32[T, rows]."""
    results = []
    for matrix in matrices:
        acc = x.astype(np.int64) @ levels(matrix).T
        results.append(requantise(acc, row_scales(matrix)[None], scale[:, None, :], FRACTION))
    return results


def fabric_sums(matrices: tuple[PackedMatrix, ...], x: Int8) -> Int64:
    """The fabric's accumulators, before the row scales: int64[T, rows of all matrices]."""
    return np.concatenate([x.astype(np.int64) @ levels(m).T for m in matrices], axis=1)


def lora(side: SramPass, x: Int8, scale: Int32, sums: Int64) -> list[Int32]:
    """What the adapter SRAM adds to the fabric's accumulators; then they are requantised.

    x int8[T, columns], scale int32[T, 2], sums int64[T, rows of all matrices] of `fabric_sums`.
    A's sums become 16-bit mantissas, since all that follows is linear in them. B's row scale is
    counted in steps of the row's accumulator, so that x's scale and the row's come once, at the
    end. Returns of each matrix Q15.16 int32[T, rows].
    """
    results, begin, x64 = [], 0, x.astype(np.int64)
    for m in side.matrices:
        acc = sums[:, begin : begin + m.rows].copy()
        begin += m.rows
        if len(m.a):
            h, shift = to_int16(x64 @ m.a.astype(np.int64).T)
            product = (h @ m.b.astype(np.int64)) * m.mantissa
            added = round_shift(product, m.exponent - shift[:, None])
            acc += np.clip(added, -LARGEST_ADDED, LARGEST_ADDED)
        for row, column, value in zip(m.cell_rows, m.cell_columns, m.cell_values, strict=True):
            acc[:, row] += x64[:, column] * value
        scales = np.stack([m.row_mantissa, m.row_exponent], axis=-1)
        results.append(requantise(acc, scales[None], scale[:, None, :], FRACTION))
    return results


def inverse_rms(h: Int64, shift: Int64, epsilon: int, peak: Int64, exponent: Int64) -> Int32:
    """Scale of peak * 2**-exponent / sqrt(sum(h**2) + epsilon), epsilon for Q15.16 squares."""
    total = (h * h).sum(axis=-1) + (epsilon >> np.minimum(2 * shift, 62))
    zeros = (62 - bit_length(total)) // 2  # an even shift brings total to 61 or 62 bits
    root = np.maximum(integer_sqrt(total << (2 * zeros)), 1)
    return normalise((peak << 47) // root, exponent + 47 - zeros)


def rms_norm(residual: Int32, epsilon: int, constant: Int32) -> tuple[Int8, Int32]:
    """Q15.16 [T, d] -> int8[T, d] and its scale; the gain is folded into the next matrix.

    x / rms needs no division per element: x keeps its direction as int8, and the root goes into
    the scale. `constant` holds sqrt(d) / 127, `epsilon` is d * eps * 2**32.
    """
    h, shift = to_int16(residual)
    x, peak, exponent = to_int8(h, 0)
    return x, multiply_scales(inverse_rms(h, shift, epsilon, peak, exponent), constant)


def rotate_residual(h: Int64, mixer: Int16) -> Int64:
    """R1 without its signs: Hadamard transform of each block, then the blocks mixed.

    mixer int16[m, m] Q1.14, d = m * block. Its own inverse, but for a factor of `block`.
    """
    m = len(mixer)
    blocks = hadamard(h, h.shape[-1] // m).reshape(*h.shape[:-1], m, -1)
    if m == 1:
        return blocks.reshape(h.shape)
    mixed = np.einsum("ij,...jk->...ik", mixer.astype(np.int64), blocks)
    return round_shift(mixed, Q1_14).reshape(h.shape)


def gain_norm(
    residual: Int32, gain: Int16, mixer: Int16, epsilon: int, constant: Int32
) -> tuple[Int8, Int32]:
    """RMSNorm whose gain cannot be folded, because the head's matrix is the embedding's too.

    Rotate back, multiply by the gain, rotate again: gain int16[d], `constant` holds its scale,
    1 / block and sqrt(d) / 127.
    """
    h, shift = to_int16(residual)
    gained, more = to_int16(rotate_residual(h, mixer) * gain.astype(np.int64))
    x, peak, exponent = to_int8(rotate_residual(gained, mixer), -more)
    return x, multiply_scales(inverse_rms(h, shift, epsilon, peak, exponent), constant)


def rope(v: Int32, start: int, cosine: Int16, sine: Int16) -> Int32:
    """Rotary embedding of [T, heads, head_dim] at positions start .. start + T - 1.

    Tables int16[context, head_dim / 2], Q1.14. Dimension i turns with dimension i + head_dim / 2,
    as Llama's checkpoints on the hub do.
    """
    half = v.shape[-1] // 2
    now = slice(start, start + v.shape[0])
    a, b = v[..., :half].astype(np.int64), v[..., half:].astype(np.int64)
    c = cosine[now].astype(np.int64)[:, None, :]
    s = sine[now].astype(np.int64)[:, None, :]
    turned = [round_shift(a * c - b * s, Q1_14), round_shift(b * c + a * s, Q1_14)]
    return saturate_int32(np.concatenate(turned, axis=-1))


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
    """R3 and int8 for q and k, int8 for v; k and v go to the SRAM from position `start` on.

    q, k, v Q15.16 int32[T, heads or kv_heads, head_dim]; constants int32[3, 2] of q, k and v.
    Returns q int8[T, heads, head_dim] and its scale int32[T, heads, 2].
    """
    now, head_dim = slice(start, start + q.shape[0]), q.shape[-1]
    k_sram[now], k_scale[now] = rotate_narrow(k, head_dim, constants[1])
    v_sram[now], v_scale[now] = narrow(v, constants[2])
    return rotate_narrow(q, head_dim, constants[0])


def exp2_negative(n: NDArray) -> Int64:
    """32767 * 2**-(n / 256) for n >= 0: table of 32, linear between, then a shift."""
    n = np.asarray(n, np.int64)
    whole = n >> SCORE_FRACTION
    fraction = n & ((1 << SCORE_FRACTION) - 1)
    below = SCORE_FRACTION - EXP2_BITS
    index, rest = fraction >> below, fraction & ((1 << below) - 1)
    table = EXP2.astype(np.int64)
    value = table[index] - round_shift((table[index] - table[index + 1]) * rest, below)
    return np.where(whole < 16, round_shift(value, np.minimum(whole, 16)), 0)


def attention(
    q: Int8, q_scale: Int32, k: Int8, k_scale: Int32, v: Int8, v_scale: Int32, start: int
) -> Int32:
    """Causal attention of T queries at positions start .. start + T - 1 over the KV SRAM.

    q int8[T, heads, head_dim]; k, v int8[context, kv_heads, head_dim]; scales int32[..., 2].
    q's scale holds log2(e) / sqrt(head_dim), so scores are powers of two. Returns Q15.16
    int32[T, heads * head_dim].
    """
    tokens, heads, head_dim = q.shape
    shared = heads // k.shape[1]  # query heads per KV head
    out = np.empty((tokens, heads, head_dim), np.int32)
    for t in range(tokens):
        n = start + t + 1
        for head in range(heads):
            kv = head // shared
            dot = k[:n, kv].astype(np.int64) @ q[t, head].astype(np.int64)
            score = requantise(dot, k_scale[:n, kv], q_scale[t, head], SCORE_FRACTION)
            score = score.astype(np.int64)
            p = exp2_negative(score.max() - score)
            # Fold each position's V scale into its probability, relative to the largest one.
            mantissa = v_scale[:n, kv, 0].astype(np.int64)
            exponent = v_scale[:n, kv, 1].astype(np.int64)
            least = exponent.min()
            w = round_shift(p * mantissa, 16 + exponent - least)
            acc = w @ v[:n, kv].astype(np.int64)
            reciprocal = (1 << SUM_RECIPROCAL_BITS) // p.sum()
            shift = SUM_RECIPROCAL_BITS - FRACTION - 16 + least
            out[t, head] = saturate_int32(round_shift(acc * reciprocal, shift))
    return out.reshape(tokens, heads * head_dim)


def swiglu(gate: Int32, up: Int32) -> Int32:
    """SiLU(gate) * up, all Q15.16: table of 256 steps over +-8, linear between."""
    g = gate.astype(np.int64)
    limit = SILU_RANGE << FRACTION
    offset = np.clip(g + limit, 0, 2 * limit - 1)
    index, rest = offset >> SILU_STEP_BITS, offset & ((1 << SILU_STEP_BITS) - 1)
    table = SILU.astype(np.int64)
    inside = table[index] + round_shift((table[index + 1] - table[index]) * rest, SILU_STEP_BITS)
    silu = np.where(g >= limit, g, np.where(g < -limit, 0, inside))
    return saturate_int32(round_shift(silu * up.astype(np.int64), FRACTION))


def swiglu_narrow(gate: Int32, up: Int32, block: int, constant: Int32) -> tuple[Int8, Int32]:
    """`rotate_narrow` of `swiglu`: gate, up [T, ffn] -> int8[T, ffn] and its scale."""
    return rotate_narrow(swiglu(gate, up), block, constant)


def residual_add(residual: Int32, delta: Int32) -> Int32:
    """Saturating sum."""
    return saturate_int32(residual.astype(np.int64) + delta)


def top_k(logits: Int32, k: int) -> Int64:
    """Indices of the k largest of int32[n], largest first; the lower index wins a tie."""
    return np.argsort(-logits.astype(np.int64), kind="stable")[:k]

"""The NumPy twins: this file, with `kernels.formats`, defines every bit of the datapath.

Each function here has a compiled counterpart of the same name in `kernels.compiled`, pinned to
it by tests. Arithmetic is int64 throughout; results are stored at the width the chip has.

Signals: an int32 signal is Q15.16 (value * 2**16). An int8 vector x travels with its scale,
int32[..., 2] = (mantissa, exponent); its value is x * mantissa * 2**-exponent, where the
mantissa has 16 bits (2**15 .. 2**16 - 1), or is 0 for a vector of zeros.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.formats import (
    ALL_POSITIONS,
    FRACTION,
    INT8_MAX,
    Q1_14,
    RECIPROCAL_BITS,
    SCORE_FRACTION,
    SUM_RECIPROCAL_BITS,
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
from kernels.lora_twin import lora
from kernels.rom.pack import PackedMatrix, unpack_codes, untile_rows
from kernels.tables import EXP2_BITS, SILU_RANGE, SILU_STEP_BITS, exp2_table, silu_table

__all__ = [
    "ALL_POSITIONS",
    "EXP2",
    "FRACTION",
    "INT8_MAX",
    "Q1_14",
    "RECIPROCAL_BITS",
    "SCORE_FRACTION",
    "SILU",
    "SUM_RECIPROCAL_BITS",
    "ZERO_EXPONENT",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "attention",
    "bias_add",
    "bit_length",
    "exp2_negative",
    "fabric",
    "fabric_sums",
    "gain_norm",
    "geglu",
    "geglu_narrow",
    "hadamard",
    "head_norm",
    "integer_sqrt",
    "inverse_rms",
    "kv_write",
    "levels",
    "lookup",
    "lora",
    "multiply_scales",
    "narrow",
    "normalise",
    "relu2_glu",
    "relu2_narrow",
    "requantise",
    "residual_add",
    "rms_norm",
    "rope",
    "rotate_narrow",
    "rotate_residual",
    "round_shift",
    "row_scales",
    "saturate_int32",
    "swiglu",
    "swiglu_narrow",
    "to_int8",
    "to_int16",
    "top_k",
]  # fmt: skip

EXP2 = exp2_table()
SILU = silu_table()


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


def head_norm(v: Int32, gain: Int16, epsilon: int, constant: Int32) -> Int32:
    """RMSNorm of each head of [T, heads, head_dim], times a gain int16[head_dim]; Q15.16 again.

    `constant` holds sqrt(head_dim) and the gain's exponent, `epsilon` is head_dim * eps * 2**32.
    """
    h, shift = to_int16(v)
    inverse = inverse_rms(h, shift, epsilon, np.ones_like(shift), np.zeros_like(shift))
    scale = multiply_scales(inverse, constant).astype(np.int64)[..., None, :]
    return saturate_int32(
        round_shift(h * gain.astype(np.int64) * scale[..., 0], scale[..., 1] - FRACTION)
    )


def bias_add(v: Int32, bias: Int32) -> Int32:
    """Saturating sum of [T, rows] and a bias [rows], both Q15.16."""
    return saturate_int32(v.astype(np.int64) + bias)


def rope(v: Int32, positions: Int64, cosine: Int16, sine: Int16) -> Int32:
    """Rotary embedding of [T, heads, head_dim] at positions int64[T].

    Tables int16[context, n], Q1.14. Dimension i turns with dimension i + n, as the checkpoints on
    the hub do; n is head_dim / 2, or less where the rest of a head stays as it is.
    """
    half = cosine.shape[-1]
    a, b = v[..., :half].astype(np.int64), v[..., half : 2 * half].astype(np.int64)
    rest = v[..., 2 * half :].astype(np.int64)
    c = cosine[positions].astype(np.int64)[:, None, :]
    s = sine[positions].astype(np.int64)[:, None, :]
    turned = [round_shift(a * c - b * s, Q1_14), round_shift(b * c + a * s, Q1_14)]
    return saturate_int32(np.concatenate([*turned, rest], axis=-1))


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
    """R3 and int8 for q and k, int8 for v; k and v go to rows int64[T] of the SRAM.

    R3's block is the largest power of two that divides head_dim.

    q, k, v Q15.16 int32[T, heads or kv_heads, head_dim]; constants int32[3, 2] of q, k and v.
    Returns q int8[T, heads, head_dim] and its scale int32[T, heads, 2].
    """
    block = q.shape[-1] & -q.shape[-1]
    k_sram[rows], k_scale[rows] = rotate_narrow(k, block, constants[1])
    v_sram[rows], v_scale[rows] = narrow(v, constants[2])
    return rotate_narrow(q, block, constants[0])


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
    """Causal attention of T queries at positions int64[T] over the KV SRAM.

    Each attends to the last `window` positions, its own included. Its own lies in row rows[t] of
    the SRAM, int64[T], and those before it in the rows before: each sequence has rows of its own.

    q int8[T, heads, head_dim]; k, v int8[rows, kv_heads, head_dim]; scales int32[..., 2].
    q's scale holds log2(e) / sqrt(head_dim), so scores are powers of two. Returns Q15.16
    int32[T, heads * head_dim].
    """
    tokens, heads, head_dim = q.shape
    shared = heads // k.shape[1]  # query heads per KV head
    out = np.empty((tokens, heads, head_dim), np.int32)
    for t in range(tokens):
        end = rows[t] + 1
        now = slice(end - min(positions[t] + 1, window), end)
        for head in range(heads):
            kv = head // shared
            dot = k[now, kv].astype(np.int64) @ q[t, head].astype(np.int64)
            score = requantise(dot, k_scale[now, kv], q_scale[t, head], SCORE_FRACTION)
            score = score.astype(np.int64)
            p = exp2_negative(score.max() - score)
            # Fold each position's V scale into its probability, relative to the largest one.
            mantissa = v_scale[now, kv, 0].astype(np.int64)
            exponent = v_scale[now, kv, 1].astype(np.int64)
            least = exponent.min()
            w = round_shift(p * mantissa, 16 + exponent - least)
            acc = w @ v[now, kv].astype(np.int64)
            reciprocal = (1 << SUM_RECIPROCAL_BITS) // p.sum()
            shift = SUM_RECIPROCAL_BITS - FRACTION - 16 + least
            out[t, head] = saturate_int32(round_shift(acc * reciprocal, shift))
    return out.reshape(tokens, heads * head_dim)


def swiglu(gate: Int32, up: Int32) -> Int32:
    """SiLU(gate) * up, all Q15.16: table of 256 steps over +-8, linear between."""
    return geglu(gate, up, SILU)


def geglu(gate: Int32, up: Int32, table: Int32) -> Int32:
    """A function of the gate, times up, all Q15.16; 0 far below 0, the gate itself far above.

    table int32[257]: the function at -8, -8 + 1/16, .. +8, of which GELU and SiLU are two.
    """
    g = gate.astype(np.int64)
    limit = SILU_RANGE << FRACTION
    offset = np.clip(g + limit, 0, 2 * limit - 1)
    index, rest = offset >> SILU_STEP_BITS, offset & ((1 << SILU_STEP_BITS) - 1)
    at = table.astype(np.int64)
    inside = at[index] + round_shift((at[index + 1] - at[index]) * rest, SILU_STEP_BITS)
    value = np.where(g >= limit, g, np.where(g < -limit, 0, inside))
    return saturate_int32(round_shift(value * up.astype(np.int64), FRACTION))


def geglu_narrow(
    gate: Int32, up: Int32, table: Int32, block: int, constant: Int32
) -> tuple[Int8, Int32]:
    """`rotate_narrow` of `geglu`: gate, up [T, ffn] -> int8[T, ffn] and its scale."""
    return rotate_narrow(geglu(gate, up, table), block, constant)


def relu2_glu(gate: Int32, up: Int32) -> Int32:
    """max(gate, 0)**2 * up, all Q15.16: a square, saturated, then a product."""
    positive = np.maximum(gate.astype(np.int64), 0)
    square = saturate_int32(round_shift(positive * positive, FRACTION)).astype(np.int64)
    return saturate_int32(round_shift(square * up.astype(np.int64), FRACTION))


def relu2_narrow(gate: Int32, up: Int32, block: int, constant: Int32) -> tuple[Int8, Int32]:
    """`rotate_narrow` of `relu2_glu`: gate, up [T, ffn] -> int8[T, ffn] and its scale."""
    return rotate_narrow(relu2_glu(gate, up), block, constant)


def swiglu_narrow(gate: Int32, up: Int32, block: int, constant: Int32) -> tuple[Int8, Int32]:
    """`rotate_narrow` of `swiglu`: gate, up [T, ffn] -> int8[T, ffn] and its scale."""
    return rotate_narrow(swiglu(gate, up), block, constant)


def residual_add(residual: Int32, delta: Int32) -> Int32:
    """Saturating sum."""
    return saturate_int32(residual.astype(np.int64) + delta)


def top_k(logits: Int32, k: int) -> Int64:
    """Indices of the k largest of int32[n], largest first; the lower index wins a tie."""
    return np.argsort(-logits.astype(np.int64), kind="stable")[:k]

"""What the adapter SRAM adds to the fabric's sums, compiled. Twin in `kernels.reference`.

A chunk of a job is a run of tokens; of one token it is a run of rows, and the thread that
prepares the job has done A before.
"""

from __future__ import annotations

import numpy as np

from kernels.arith import requantise_rows, round_shift, to_int16
from kernels.host.entry import entry, inner, routine
from kernels.host.job import CHUNKS, CHUNKS_A_THREAD, OWN, THREADS, words
from kernels.host.simd import (
    add,
    broadcast_pair,
    dot_i16,
    dot_u8,
    fill_i8,
    fill_i32,
    get_i32,
    interleave,
    lane_sum,
    load_i8x32,
    prefetch,
    store,
    view_i8,
    view_i16,
    view_i32,
    view_i64,
    view_u16,
)
from kernels.reference import FRACTION
from kernels.sram_matrix import (
    CELL_COLUMNS,
    CELL_ROWS,
    CELL_VALUES,
    CELLS,
    COLUMNS,
    EXPONENT,
    LARGEST_ADDED,
    MANTISSA,
    MOST_RANK,
    RANK,
    ROW_EXPONENT,
    ROW_MANTISSA,
    ROWS,
    WORDS,
    A,
    B,
)

LEAST_ROWS = 128  # of a chunk
LANES = 32  # bytes of a vector; A has whole vectors of columns
PAIRS = 4 * MOST_RANK  # bytes from A's sums to the same as pairs of int16

# Words of a job; SUM_ROWS are those of all matrices, SIZE the rows or tokens of a chunk.
TOKEN_COUNT, SIZE, X, X_SCALE, SUMS, SUM_ROWS, OUT, MATRICES, WIRING, INNER = range(OWN, OWN + 10)
SHIFT = OWN + 10  # of each matrix, where there is one token


def scratch_bytes(rows: int) -> int:
    """What one thread needs for matrices of at most `rows` rows."""
    return 8 * MOST_RANK + 12 * rows


@inner
def products_of_a(a, x, rank, columns, sums):
    """int8[rank, columns] times int8[columns], whole vectors -> int32[rank].

    A dot product takes unsigned bytes, so 128 is added to A, and 128 times x's sum taken off.
    """
    sign, ones, total = fill_i8(-128), fill_i8(1), fill_i32(0)
    for c in range(0, columns, LANES):
        total = dot_u8(total, ones, load_i8x32(x + c))
    excess = np.int32(128 * lane_sum(total))
    for r in range(rank):
        even, odd, row = fill_i32(0), fill_i32(0), a + r * columns
        for c in range(0, columns - LANES, 2 * LANES):
            even = dot_u8(even, add(load_i8x32(row + c), sign), load_i8x32(x + c))
            at = c + LANES
            odd = dot_u8(odd, add(load_i8x32(row + at), sign), load_i8x32(x + at))
        if columns % (2 * LANES):
            at = columns - LANES
            even = dot_u8(even, add(load_i8x32(row + at), sign), load_i8x32(x + at))
        sums[r] = np.int32(lane_sum(add(even, odd))) - excess


@inner
def products_of_b(b, h, rank, step, out):
    """int32[rank] at h times int8[rank, rows], two ranks `step` bytes apart -> int32[rows].

    Two ranks are a product of int16 pairs; `to_pairs` has laid h out for it.
    """
    rows, pairs = out.size, h + PAIRS
    whole = rows - rows % LANES
    for j in range(0, whole, LANES):
        s0, s1, s2, s3 = fill_i32(0), fill_i32(0), fill_i32(0), fill_i32(0)
        for r in range(0, rank, 2):
            at = b + r * step + j
            pair, next_ = broadcast_pair(pairs + 2 * r), at + (step if r + 1 < rank else 0)
            p, q = interleave(at, next_)
            s0, s1 = add(s0, dot_i16(p, pair)), add(s1, dot_i16(q, pair))
            p, q = interleave(at + 16, next_ + 16)
            s2, s3 = add(s2, dot_i16(p, pair)), add(s3, dot_i16(q, pair))
        to = out.ctypes.data + 4 * j
        store(to, s0)
        store(to + 32, s1)
        store(to + 64, s2)
        store(to + 96, s3)
    values = view_i32(h, rank)
    for j in range(whole, rows):
        out[j] = 0
    for r in range(rank):
        row = view_i8(b + r * step, rows)
        if values[r] > 32767:
            for j in range(whole):
                out[j] += row[j]
        for j in range(whole, rows):
            out[j] = np.int32(out[j] + np.int32(row[j]) * values[r])


@inner
def to_pairs(values, pairs):
    """int32[rank] -> int16 at address `pairs`, a last pair filled up with 0.

    Rounded mantissas may be 2**15, which is one too many: `products_of_b` adds the rest.
    """
    rank = values.size
    words = view_i16(pairs, rank + rank % 2)
    words[words.size - 1] = 0
    for r in range(rank):
        words[r] = min(values[r], 32767)


@inner
def add_product(acc, product, mantissas, exponents, shift):
    """acc[row] += product * mantissa * 2**(shift - exponent); mostly all shift to the right."""
    least = np.int64(127)
    for j in range(acc.size):
        least = min(least, np.int64(exponents[j]))
    if least > shift:
        for j in range(acc.size):
            right = np.int64(exponents[j]) - shift
            whole = np.int64(product[j]) * np.int64(mantissas[j])
            right = min(right, 63)
            acc[j] += (whole + (np.int64(1) << (right - 1))) >> right
        return
    for j in range(acc.size):
        whole = np.int64(product[j]) * np.int64(mantissas[j])
        added = round_shift(whole, np.int64(exponents[j]) - shift)
        acc[j] += min(max(added, -LARGEST_ADDED), LARGEST_ADDED)


@inner
def first_cell(cell_rows, row):
    """The number of cells in rows below `row`."""
    low, high = np.int64(0), np.int64(cell_rows.size)
    while low < high:
        middle = (low + high) >> 1
        if cell_rows[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low


@inner
def inner_sums(m, x, memory):
    """A's sums of one token as mantissas at `memory`, int32[rank], and as pairs behind it.

    Returns their shift.
    """
    if m[RANK] == 0:
        return np.int64(0)
    sums, values = view_i32(memory + PAIRS, m[RANK]), view_i32(memory, m[RANK])
    products_of_a(m[A], x, m[RANK], m[COLUMNS], sums)
    shift = to_int16(sums, values)
    to_pairs(values, memory + PAIRS)
    return shift


@inner
def outer(m, h, shift, x, scale, sums, out, first, n, scratch):
    """Rows first .. first + n - 1 of one token: sums int64[rows] -> int32[rows] at `out`."""
    acc, product = view_i64(scratch, n), view_i32(scratch + 8 * n, n)
    for r in range(m[RANK]):  # a CPU does not foresee short runs that lie far apart
        for byte in range(0, n, 64):
            prefetch(m[B] + r * m[ROWS] + first + byte)
    given = view_i64(sums + 8 * first, n)
    for j in range(n):
        acc[j] = given[j]
    if m[RANK] > 0:
        products_of_b(m[B] + first, h, m[RANK], m[ROWS], product)
        mantissas, exponents = view_u16(m[MANTISSA] + 2 * first, n), view_i8(m[EXPONENT] + first, n)
        add_product(acc, product, mantissas, exponents, shift)
    cells = m[CELLS]
    if cells > 0:
        inputs, at_row = view_i8(x, m[COLUMNS]), view_i32(m[CELL_ROWS], cells)
        at_column, values = view_i32(m[CELL_COLUMNS], cells), view_i16(m[CELL_VALUES], cells)
        for i in range(first_cell(at_row, first), first_cell(at_row, first + n)):
            acc[at_row[i] - first] += np.int64(inputs[at_column[i]]) * np.int64(values[i])
    row_mantissas = view_u16(m[ROW_MANTISSA] + 2 * first, n)
    row_exponents, to = view_i8(m[ROW_EXPONENT] + first, n), view_i32(out + 4 * first, n)
    mantissa, exponent = get_i32(scale), get_i32(scale + 4)
    requantise_rows(acc, row_mantissas, row_exponents, mantissa, exponent - FRACTION, to)


@routine
def lora_chunk(address, chunk, scratch):
    """Of one token a run of the rows of all matrices; of several a run of tokens."""
    job = words(address)
    tokens, total = job[TOKEN_COUNT], job[SUM_ROWS]
    begin = chunk * job[SIZE]
    end = begin + job[SIZE]
    before = np.int64(0)  # rows of the matrices before
    for number in range(job[MATRICES]):
        m = view_i64(job[WIRING] + 8 * WORDS * number, WORDS)
        rows, columns = m[ROWS], m[COLUMNS]
        out = job[OUT] + 4 * tokens * before
        if tokens == 1:
            h = job[INNER] + 8 * MOST_RANK * number
            first, last = max(begin - before, 0), min(end - before, rows)
            if first < last:
                sums, n = job[SUMS] + 8 * before, last - first
                shift, x = job[SHIFT + number], job[X]
                outer(m, h, shift, x, job[X_SCALE], sums, out, first, n, scratch)
        else:
            memory = scratch + 8 * MOST_RANK
            for t in range(begin, min(end, tokens)):
                x, sums = job[X] + t * columns, job[SUMS] + 8 * (t * total + before)
                shift, to = inner_sums(m, x, scratch), out + 4 * t * rows
                scale = job[X_SCALE] + 8 * t
                outer(m, scratch, shift, x, scale, sums, to, 0, rows, memory)
        before += rows


@entry("void(int64[::1], int64[:, ::1], int8[:, ::1], int32[:, ::1], int64[:, ::1], int32[::1])")
def lora(job, wiring, x, scale, sums, out):
    """Set up: wiring int64[matrices, WORDS], sums int64[T, rows of all], out as of the fabric."""
    job[TOKEN_COUNT], job[SUM_ROWS], job[MATRICES] = sums.shape[0], sums.shape[1], wiring.shape[0]
    job[X], job[X_SCALE] = x.ctypes.data, scale.ctypes.data
    job[SUMS], job[OUT], job[WIRING] = sums.ctypes.data, out.ctypes.data, wiring.ctypes.data


@routine
def lora_prepare(address, _, memory):
    """A of one token, and the chunks."""
    job = words(address)
    tokens, total = job[TOKEN_COUNT], job[SUM_ROWS]
    job[INNER] = memory
    if tokens == 1:
        for number in range(job[MATRICES]):
            m = view_i64(job[WIRING] + 8 * WORDS * number, WORDS)
            job[SHIFT + number] = inner_sums(m, job[X], memory + 8 * MOST_RANK * number)
    parts = total if tokens == 1 else tokens
    size = max(parts // (CHUNKS_A_THREAD * job[THREADS]), LEAST_ROWS if tokens == 1 else 1)
    if tokens == 1:
        size = (size + LANES - 1) // LANES * LANES
    job[SIZE] = size
    job[CHUNKS] = (parts + size - 1) // size

"""What the adapter SRAM adds to the fabric's sums, compiled. Twin in `kernels.reference`.

A chunk of a job is a run of tokens; of one token it is a run of rows, and the thread that
prepares the job has done A before.
"""

from __future__ import annotations

import numpy as np

from kernels.arith import requantise_rows, round_shift, to_int16
from kernels.host.entry import entry, inner, routine
from kernels.host.job import CHUNKS, OWN, THREADS, words
from kernels.host.simd import get_i32, view_i8, view_i16, view_i32, view_i64, view_u16
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

CHUNKS_A_THREAD = 2
LEAST_ROWS = 128  # of a chunk

# Words of a job; SUM_ROWS are those of all matrices, SIZE the rows or tokens of a chunk.
TOKEN_COUNT, SIZE, X, X_SCALE, SUMS, SUM_ROWS, OUT, MATRICES, WIRING, INNER = range(OWN, OWN + 10)
SHIFT = OWN + 10  # of each matrix, where there is one token


def scratch_bytes(rows: int) -> int:
    """What one thread needs for matrices of at most `rows` rows."""
    return 8 * MOST_RANK + 12 * rows


@inner
def products_of_a(a, x, rank, columns, sums):
    """int8[rank, columns] times int8[columns] -> int32[rank]."""
    inputs = view_i8(x, columns)
    for r in range(rank):
        row = view_i8(a + r * columns, columns)
        total = np.int32(0)
        for c in range(columns):
            total = np.int32(total + np.int32(row[c]) * np.int32(inputs[c]))
        sums[r] = total


@inner
def products_of_b(b, h, rank, step, out):
    """int32[rank] times int8[rank, rows], two ranks `step` bytes apart -> int32[rows].

    Four ranks at a time stay in registers.
    """
    rows = out.size
    for j in range(rows):
        out[j] = 0
    r = 0
    while r + 4 <= rank:
        b0, b1 = view_i8(b + r * step, rows), view_i8(b + (r + 1) * step, rows)
        b2, b3 = view_i8(b + (r + 2) * step, rows), view_i8(b + (r + 3) * step, rows)
        h0, h1, h2, h3 = h[r], h[r + 1], h[r + 2], h[r + 3]
        for j in range(rows):
            low = np.int32(b0[j]) * h0 + np.int32(b1[j]) * h1
            high = np.int32(b2[j]) * h2 + np.int32(b3[j]) * h3
            out[j] = np.int32(out[j] + low + high)
        r += 4
    while r < rank:
        b0, h0 = view_i8(b + r * step, rows), h[r]
        for j in range(rows):
            out[j] = np.int32(out[j] + np.int32(b0[j]) * h0)
        r += 1


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
    """A's sums of one token as mantissas int32[rank] at `memory`; returns their shift."""
    if m[RANK] == 0:
        return np.int64(0)
    sums = view_i32(memory + 4 * MOST_RANK, m[RANK])
    products_of_a(m[A], x, m[RANK], m[COLUMNS], sums)
    return to_int16(sums, view_i32(memory, m[RANK]))


@inner
def outer(m, h, shift, x, scale, sums, out, first, n, scratch):
    """Rows first .. first + n - 1 of one token: sums int64[rows] -> int32[rows] at `out`."""
    acc, product = view_i64(scratch, n), view_i32(scratch + 8 * n, n)
    given = view_i64(sums + 8 * first, n)
    for j in range(n):
        acc[j] = given[j]
    if m[RANK] > 0:
        products_of_b(m[B] + first, view_i32(h, m[RANK]), m[RANK], m[ROWS], product)
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
    job[SIZE] = size
    job[CHUNKS] = (parts + size - 1) // size

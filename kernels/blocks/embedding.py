"""Rows of a packed matrix as Q15.16, compiled. Twin: `lookup` in `kernels.reference`."""

from __future__ import annotations

from kernels.arith import round_shift, saturate_int32
from kernels.host.entry import entry, inner, routine
from kernels.host.job import OF_TOKENS, run_of_tokens, share_tokens, words
from kernels.host.simd import get_i8, get_i64, get_u8, get_u16, view_i32, view_i64
from kernels.reference import FRACTION
from kernels.rom import wiring as wired
from kernels.rom.codes import one_code, tile_bytes
from kernels.rom.pack import TILE_COLUMNS, TILE_ROWS

WIRING, ROWS, OUT, COLUMNS = range(OF_TOKENS, OF_TOKENS + 4)


@entry("void(int64[::1], int64[::1], int64[::1], int32[:, ::1])")
def lookup(job, wiring, rows, out):
    """Set up: rows of the embedding as Q15.16, int32[T, columns]."""
    share_tokens(job, rows.size)
    job[WIRING], job[ROWS] = wiring.ctypes.data, rows.ctypes.data
    job[OUT], job[COLUMNS] = out.ctypes.data, out.shape[1]


@routine
def lookup_tokens(address, chunk, scratch):
    job = words(address)
    first, last = run_of_tokens(job, chunk)
    for t in range(first, last):
        out = view_i32(job[OUT] + 4 * t * job[COLUMNS], job[COLUMNS])
        look_up(view_i64(job[WIRING], wired.WORDS), get_i64(job[ROWS] + 8 * t), out)


@inner
def look_up(wiring, row, out):
    """One row, int32[columns]."""
    kind, chunks = wiring[wired.KIND], wiring[wired.CHUNKS]
    group_chunks = wiring[wired.GROUP_CHUNKS]
    bits, size = kind % wired.EVEN, tile_bytes(kind)
    tile, r = row // TILE_ROWS, row % TILE_ROWS
    codes = wiring[wired.CODES] + tile * chunks * size
    scales = wiring[wired.GROUP_SCALE] + tile * (chunks // group_chunks) * TILE_ROWS + r
    mantissa = get_u16(wiring[wired.ROW_MANTISSA] + 2 * row)
    shift = get_i8(wiring[wired.ROW_EXPONENT] + row) - FRACTION
    for chunk in range(chunks):
        scale = get_i8(scales + chunk // group_chunks * TILE_ROWS) * mantissa
        for column in range(TILE_COLUMNS):
            u = one_code(codes + chunk * size, bits, r, column)
            if kind == bits:
                u = get_u8(wiring[wired.TABLE] + u)
            level = wiring[wired.STEP] * u + wiring[wired.BASE]
            value = saturate_int32(round_shift(level * scale, shift))
            out[chunk * TILE_COLUMNS + column] = value

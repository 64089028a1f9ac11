"""Rows of a packed matrix as Q15.16, compiled. Twin: `lookup` in `kernels.reference`."""

from __future__ import annotations

from kernels.arith import round_shift, saturate_int32
from kernels.host.entry import entry
from kernels.host.simd import get_i8, get_u8, get_u16
from kernels.reference import FRACTION
from kernels.rom import wiring as wired
from kernels.rom.codes import one_code, tile_bytes
from kernels.rom.pack import TILE_COLUMNS, TILE_ROWS


@entry("void(int64[::1], int64[::1], int32[:, ::1])")
def lookup_rows(wiring, rows, out):
    """Rows of the embedding as Q15.16, int32[T, columns]."""
    kind, chunks = wiring[wired.KIND], wiring[wired.CHUNKS]
    group_chunks = wiring[wired.GROUP_CHUNKS]
    bits, size = kind % wired.EVEN, tile_bytes(kind)
    for t in range(rows.size):
        tile, r = rows[t] // TILE_ROWS, rows[t] % TILE_ROWS
        codes = wiring[wired.CODES] + tile * chunks * size
        scales = wiring[wired.GROUP_SCALE] + tile * (chunks // group_chunks) * TILE_ROWS + r
        mantissa = get_u16(wiring[wired.ROW_MANTISSA] + 2 * rows[t])
        shift = get_i8(wiring[wired.ROW_EXPONENT] + rows[t]) - FRACTION
        for chunk in range(chunks):
            scale = get_i8(scales + chunk // group_chunks * TILE_ROWS) * mantissa
            for column in range(TILE_COLUMNS):
                u = one_code(codes + chunk * size, bits, r, column)
                if kind == bits:
                    u = get_u8(wiring[wired.TABLE] + u)
                level = wiring[wired.STEP] * u + wiring[wired.BASE]
                value = saturate_int32(round_shift(level * scale, shift))
                out[t, chunk * TILE_COLUMNS + column] = value

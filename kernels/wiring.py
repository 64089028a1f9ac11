"""The form in which compiled kernels are handed a packed matrix: eleven words and a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from kernels.pack import PackedMatrix

CODES, GROUP_SCALE, ROW_MANTISSA, ROW_EXPONENT, TABLE = range(5)  # addresses
ROWS, CHUNKS, GROUP_CHUNKS, KIND, STEP, BASE = range(5, 11)  # chunks have 32 columns
WORDS = 11

SCATTERED = 7  # KIND of 6-bit codes whose levels do not rise by 1 or by 2; else KIND is the bits


def lookup_table(alphabet: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Levels + 64 in rows of 16 entries, each row twice: uint8[32] or, of 6 bits, uint8[128].

    Eight levels are repeated, so that a lookup may leave any bit in place above a 3-bit code.
    """
    levels = (alphabet.astype(np.int16) + 64).astype(np.uint8)
    rows = np.resize(levels, (max(levels.size // 16, 1), 16))
    return np.ascontiguousarray(np.repeat(rows, 2, axis=0).reshape(-1))


def wiring(matrix: PackedMatrix) -> NDArray[np.int64]:
    """int64[WORDS] for the compiled kernels; addresses hold while the matrix lives.

    A level is step * u + base: u is the code itself where the levels of 64 rise evenly, else the
    table's entry. Raises ValueError for an array that is not contiguous.
    """
    arrays: list[NDArray] = [
        matrix.codes,
        matrix.group_scale,
        matrix.row_mantissa,
        matrix.row_exponent,
    ]
    if not all(a.flags.c_contiguous for a in arrays):
        raise ValueError("the arrays of a packed matrix must be contiguous")
    kind, step, base = matrix.bits, 1, -64
    if matrix.bits == 6:
        steps = np.diff(matrix.alphabet.astype(np.int64))
        if steps[0] in (1, 2) and (steps == steps[0]).all():
            step, base = int(steps[0]), int(matrix.alphabet[0])
        else:
            kind = SCATTERED
    addresses = [a.ctypes.data for a in (*arrays, matrix.table)]
    shape = [matrix.rows, matrix.columns // 32, matrix.group // 32]
    return np.array([*addresses, *shape, kind, step, base], np.int64)

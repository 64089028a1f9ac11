"""The form in which compiled kernels are handed a packed matrix: eleven words and a table.

`kernels.rom.pack.PackedMatrix` fills them in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CODES, GROUP_SCALE, ROW_MANTISSA, ROW_EXPONENT, TABLE = range(5)  # addresses
ROWS, CHUNKS, GROUP_CHUNKS, KIND, STEP, BASE = range(5, 11)  # chunks have 32 columns
WORDS = 11

EVEN = 16  # KIND is the bits of a code; and EVEN more where its level is computed, not looked up


WHOLE_TABLE = 64  # bytes; then the table again, in rows of 16


def lookup_table(alphabet: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Levels + 64: WHOLE_TABLE entries, then rows of 16 entries, each row twice.

    uint8[96] or, of 6 bits, uint8[192]. Fewer levels are repeated, so that a lookup may leave any
    bit in place above a code.
    """
    levels = (alphabet.astype(np.int16) + 64).astype(np.uint8)
    rows = np.resize(levels, (max(levels.size // 16, 1), 16))
    twice = np.repeat(rows, 2, axis=0).reshape(-1)
    return np.concatenate([np.resize(levels, WHOLE_TABLE), twice])

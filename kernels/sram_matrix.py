"""What the adapter SRAM holds for one matrix of the masks: B times A, and single cells.

The sum of a row of the masks gets added, in its own steps (level * group scale):

    B[row] . (A x) * scale of the row + sum over the row's cells of value * x[column]

An adapter (LoRA) has A and B, a repair may have both parts; each may be empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MOST_RANK = 64
LARGEST_ADDED = 1 << 44  # that B's product adds to an accumulator
MOST_COLUMNS = 1 << 17  # columns * 127 * 127 < 2**31
LARGEST_CELL = 2 * 64 * 128  # |value|: the difference of two of a mask's levels * group scales

# Words in which compiled kernels are handed a matrix: addresses, then sizes.
A, B, MANTISSA, EXPONENT, ROW_MANTISSA, ROW_EXPONENT = range(6)
CELL_ROWS, CELL_COLUMNS, CELL_VALUES, RANK, ROWS, COLUMNS, CELLS = range(6, 13)
WORDS = 13

SCALE_BITS = 16 + 8  # of B's rows: mantissa and exponent
VALUE_BITS = 16  # of a cell


@dataclass(frozen=True, slots=True)
class SramMatrix:
    """Added to the sums of a mask's matrix of `rows` x `columns`; arrays are contiguous."""

    a: NDArray[np.int8]  # [rank, columns]
    b: NDArray[np.int8]  # [rank, rows]
    mantissa: NDArray[np.uint16]  # [rows], of B's row in steps of the sum, or 0
    exponent: NDArray[np.int8]  # [rows], 0 to 127
    cell_rows: NDArray[np.int32]  # [cells], rising
    cell_columns: NDArray[np.int32]  # [cells]
    cell_values: NDArray[np.int16]  # [cells], within +-LARGEST_CELL
    row_mantissa: NDArray[np.uint16]  # [rows], the masks' row scales
    row_exponent: NDArray[np.int8]  # [rows]
    wiring: NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        arrays: list[NDArray] = [
            *(self.a, self.b, self.mantissa, self.exponent, self.row_mantissa, self.row_exponent),
            *(self.cell_rows, self.cell_columns, self.cell_values),
        ]
        if not all(array.flags.c_contiguous for array in arrays):
            raise ValueError("the arrays of an SRAM matrix must be contiguous")
        sizes = [self.rank, self.rows, self.columns, self.cell_rows.size]
        words = [array.ctypes.data for array in arrays] + sizes
        object.__setattr__(self, "wiring", np.array(words, np.int64))

    @property
    def rank(self) -> int:
        return int(self.a.shape[0])

    @property
    def rows(self) -> int:
        return int(self.row_mantissa.size)

    @property
    def columns(self) -> int:
        return int(self.a.shape[1])

    @property
    def stored_bits(self) -> int:
        """Bits of SRAM: A, B with its row scales, and cells with their places."""
        return sram_bits(self.rows, self.columns, self.rank, self.cell_rows.size)


@dataclass(frozen=True, slots=True)
class SramPass:
    """The matrices that read one input, in the order of their rows; each may add nothing."""

    matrices: tuple[SramMatrix, ...]
    wiring: NDArray[np.int64] = field(init=False, repr=False, compare=False)  # [matrices, WORDS]
    most_rows: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "wiring", np.stack([m.wiring for m in self.matrices]))
        object.__setattr__(self, "most_rows", max(m.rows for m in self.matrices))


def sram_bits(rows: int, columns: int, rank: int, cells: int = 0) -> int:
    """Bits of SRAM that a patch of this rank and number of cells takes."""
    place = max(rows - 1, 1).bit_length() + max(columns - 1, 1).bit_length()
    low_rank = 8 * rank * (rows + columns) + (SCALE_BITS * rows if rank else 0)
    return low_rank + cells * (place + VALUE_BITS)


def fault(matrix: SramMatrix) -> str | None:
    """What in a matrix would leave the widths of the datapath, or None."""
    if matrix.rank > MOST_RANK:
        return f"rank {matrix.rank} is above {MOST_RANK}"
    if matrix.columns > MOST_COLUMNS:
        return f"{matrix.columns} columns are more than {MOST_COLUMNS}"
    if matrix.rows and matrix.exponent.min() < 0:
        return "a row adds more than 65,536 steps of the masks for each of its own"
    cells = matrix.cell_values.astype(np.int64)
    if cells.size and np.abs(cells).max() > LARGEST_CELL:
        return f"a cell's value is beyond +-{LARGEST_CELL}"
    return None


def empty_cells() -> dict[str, NDArray]:
    """The cells of a matrix that has none, by field."""
    return {
        "cell_rows": np.empty(0, np.int32),
        "cell_columns": np.empty(0, np.int32),
        "cell_values": np.empty(0, np.int16),
    }


def nothing(
    columns: int, row_mantissa: NDArray[np.uint16], row_exponent: NDArray[np.int8]
) -> SramMatrix:
    """Adds nothing: stands for a matrix without an adapter beside others that have one."""
    rows = row_mantissa.size
    return SramMatrix(
        np.empty((0, columns), np.int8),
        np.empty((0, rows), np.int8),
        np.zeros(rows, np.uint16),
        np.zeros(rows, np.int8),
        row_mantissa=row_mantissa,
        row_exponent=row_exponent,
        **empty_cells(),
    )

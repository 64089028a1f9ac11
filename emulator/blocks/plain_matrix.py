"""A packed matrix as plain rows, which is how a vector holds it, and back; and parts of one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from emulator.blocks.wires import Arrays, Int64
from kernels.rom.pack import (
    TILE_ROWS,
    PackedMatrix,
    pack_codes,
    row_tiles,
    tile_rows,
    unpack_codes,
    untile_rows,
)


def plain_arrays(matrix: PackedMatrix) -> Arrays:
    """Codes, group scales and row scales by row, as docs/rom-image.md writes a weight's formula."""
    return {
        "codes": unpack_codes(matrix.codes, matrix.rows, matrix.bits),
        "group_scale": untile_rows(matrix.group_scale, matrix.rows),
        "row_mantissa": matrix.row_mantissa,
        "row_exponent": matrix.row_exponent,
        "alphabet": matrix.alphabet,
    }


def packed_matrix(name: str, parameters: Mapping[str, int], rom: Arrays) -> PackedMatrix:
    """The matrix whose plain arrays are "NAME.codes" and so on, of "NAME.bits" and "NAME.group".

    Raises KeyError where one of them is missing, ValueError where they do not fit each other.
    """
    codes, bits = rom[f"{name}.codes"], parameters[f"{name}.bits"]
    return PackedMatrix(
        rows=codes.shape[0],
        columns=codes.shape[1],
        bits=bits,
        group=parameters[f"{name}.group"],
        codes=pack_codes(codes, bits),
        group_scale=tile_rows(rom[f"{name}.group_scale"]),
        row_mantissa=rom[f"{name}.row_mantissa"],
        row_exponent=rom[f"{name}.row_exponent"],
        alphabet=rom[f"{name}.alphabet"],
    )


def first_rows(matrix: PackedMatrix, rows: int) -> PackedMatrix:
    """The first rows of a matrix, rounded up to whole tiles where it has more; views."""
    rows = min(matrix.rows, row_tiles(rows) * TILE_ROWS)
    tiles = row_tiles(rows)
    return PackedMatrix(
        rows,
        matrix.columns,
        matrix.bits,
        matrix.group,
        matrix.codes[:tiles],
        matrix.group_scale[:tiles],
        matrix.row_mantissa[:rows],
        matrix.row_exponent[:rows],
        matrix.alphabet,
    )


def chosen_rows(matrix: PackedMatrix, numbers: Int64) -> PackedMatrix:
    """The rows of these numbers, in their order; copies."""
    plain = plain_arrays(first_rows(matrix, int(numbers.max()) + 1))
    rows = {k: array if k == "alphabet" else array[numbers] for k, array in plain.items()}
    named = {f"rows.{key}": np.ascontiguousarray(array) for key, array in rows.items()}
    return packed_matrix("rows", {"rows.bits": matrix.bits, "rows.group": matrix.group}, named)

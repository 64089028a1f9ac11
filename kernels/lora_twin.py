"""LoRA's NumPy twin: the part of the specification that concerns the adapter SRAM.

`kernels.reference` has the others and hands this one on.
"""

from __future__ import annotations

import numpy as np

from kernels.formats import FRACTION, Int8, Int32, Int64, requantise, round_shift, to_int16
from kernels.sram_matrix import LARGEST_ADDED, SramPass


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

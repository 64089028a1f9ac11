"""A LoRA adapter for one ROM image: turned into the chip's basis and quantised to integers.

A reads what the matrix reads and B writes what it writes, so they turn with the matrix
(`weights.fold`). Each row of A becomes int8 by its largest value, each row of B too, with A's steps
taken into B; what is left of the scale is counted in steps of the row's sum in the masks. Only
elementwise IEEE operations in a fixed order: the integers are the same on every host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emulator.errors import AdapterError
from kernels.rom.pack import PackedMatrix
from kernels.sram_matrix import SramMatrix, empty_cells, fault
from weights.checkpoint import Checkpoint
from weights.fold import Fold
from weights.peft_adapter import LowRank, PeftAdapter
from weights.rom import RomImage

LARGEST = 127
NO_EXPONENT = 127  # of a row that adds nothing


@dataclass(frozen=True, slots=True)
class Adapter:
    """What the adapter SRAM holds of one adapter, by the names of the image's matrices."""

    name: str
    digest: str  # of what it was made from
    matrices: Mapping[str, SramMatrix]  # "layers.3.q"

    @property
    def stored_bits(self) -> int:
        """Bits of SRAM."""
        return sum(matrix.stored_bits for matrix in self.matrices.values())


def turned(adapter: PeftAdapter, source: Checkpoint, seed: int) -> dict[tuple[int, str], LowRank]:
    """The adapter in the chip's basis, in float32; `source` gives the norms' gains."""
    folder = Fold(source, seed)

    def b_of(name: str, low: LowRank) -> NDArray[np.float32]:
        factor = source.factors.of(name, source.config)  # the family's, as in `read_tensor`
        return folder.turn_outputs(name, low.b if factor == 1 else low.b * np.float32(factor))

    return {
        (layer, name): LowRank(folder.turn_inputs(name, layer, low.a), b_of(name, low))
        for (layer, name), low in adapter.matrices.items()
    }


def adapter_for(image: RomImage, source: Checkpoint, adapter: PeftAdapter) -> Adapter:
    """Quantise an adapter for an image that was made from `source`.

    Raises AdapterError where a row of the masks is empty or far too small for what is added.
    """
    matrices = {}
    for (layer, name), low in turned(adapter, source, rotation_seed(image)).items():
        place = f"layers.{layer}.{name}"
        try:
            matrices[place] = quantised(low, image.matrices[place])
        except AdapterError as error:
            raise AdapterError(f"adapter {adapter.name}: {place}: {error}") from None
    return Adapter(adapter.name, adapter.digest, matrices)


def rotation_seed(image: RomImage) -> int:
    """Of R1's signs."""
    return int(image.manifest["rotation"]["seed"])


def quantised(low: LowRank, matrix: PackedMatrix) -> SramMatrix:
    """Integers of a low-rank part in the chip's basis, for the rows of `matrix`."""
    a, peaks = _int8_rows(low.a.astype(np.float64))
    b, row_peaks = _int8_rows(low.b.astype(np.float64) * (peaks / LARGEST))
    mantissa, exponent = row_scale(row_peaks / LARGEST, matrix)
    side = SramMatrix(
        np.ascontiguousarray(a),
        np.ascontiguousarray(b.T),
        mantissa,
        exponent,
        row_mantissa=np.ascontiguousarray(matrix.row_mantissa),
        row_exponent=np.ascontiguousarray(matrix.row_exponent),
        **empty_cells(),
    )
    if problem := fault(side):
        raise AdapterError(problem)
    return side


def row_scale(
    steps: NDArray[np.float64], matrix: PackedMatrix
) -> tuple[NDArray[np.uint16], NDArray[np.int8]]:
    """Real steps of B's rows -> mantissa and exponent, in steps of the masks' rows.

    Raises AdapterError for an empty row of the masks, to which nothing can be added.
    """
    own = np.ldexp(matrix.row_mantissa.astype(np.float64), -matrix.row_exponent.astype(np.int64))
    empty = np.flatnonzero((own == 0) & (steps > 0))
    if empty.size:
        raise AdapterError(f"row {empty[0]} is empty in the masks, so nothing can be added to it")
    ratio = steps / np.where(own > 0, own, 1)
    fraction, power = np.frexp(ratio)
    mantissa = np.rint(fraction * 65536).astype(np.int64)
    carry = mantissa >> 16
    mantissa, exponent = mantissa >> carry, 16 - power.astype(np.int64) - carry
    mantissa = np.where(exponent > NO_EXPONENT, 0, mantissa)
    exponent = np.where(mantissa == 0, NO_EXPONENT, exponent)
    if exponent.size and exponent.min() < 0:
        row = int(exponent.argmin())
        raise AdapterError(f"row {row} of the masks is too small for what is added to it")
    return mantissa.astype(np.uint16), exponent.astype(np.int8)


def _int8_rows(w: NDArray[np.float64]) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """[rows, n] -> int8 of each row by its largest value, and those values."""
    peaks = np.abs(w).max(axis=1)
    scaled = w / np.where(peaks > 0, peaks, 1)[:, None] * LARGEST
    return np.rint(scaled).astype(np.int8), peaks

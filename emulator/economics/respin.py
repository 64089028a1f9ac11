"""Two models on one base die: what differs in the masks, and what a new set of them costs.

A base die fixes the cells, so both models need the same shape and the same code width in every
matrix. Then a weight is where vias stand in its cells, and only those layers of the die are new.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from emulator.economics.constants import Economics
from emulator.silicon.spec import ChipSpec
from kernels.rom.pack import PackedMatrix, unpack_codes, untile_rows
from weights.rom import RomImage


@dataclass(frozen=True, slots=True)
class MatrixChange:
    """What differs between two masks of one matrix."""

    name: str
    codes: int
    changed_codes: int
    cells: int
    changed_cells: int  # whose vias stand elsewhere
    changed_scales: int  # group scales and row scales

    @property
    def share(self) -> float:
        return self.changed_cells / self.cells

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"share": self.share}


def obstacles(a: RomImage, b: RomImage) -> list[str]:
    """Why two images cannot share a base die; empty when they can."""
    shapes = (a.config.to_json(), b.config.to_json())
    sizes = ("hidden", "layers", "heads", "kv_heads", "head_dim", "ffn", "vocabulary", "tied")
    found = [
        f"{key} is {shapes[0].get(key)} in one and {shapes[1].get(key)} in the other"
        for key in sizes
        if shapes[0].get(key) != shapes[1].get(key)
    ]
    if found:
        return found
    for name, matrix in a.matrices.items():
        other = b.matrices[name]
        if (matrix.bits, matrix.group) != (other.bits, other.group):
            found.append(f"{name} has {matrix.bits}-bit codes in one, {other.bits} in the other")
    return found


def changes(a: RomImage, b: RomImage, spec: ChipSpec) -> Iterator[MatrixChange]:
    """Matrix by matrix, of two images without obstacles. `spec` says how many bits a cell has."""
    for name, matrix in a.matrices.items():
        yield matrix_change(name, matrix, b.matrices[name], int(spec.fabric.cell_bits))


def matrix_change(name: str, a: PackedMatrix, b: PackedMatrix, cell_bits: int) -> MatrixChange:
    """A weight wider than a cell lies in several; one cell may change and the other not."""
    one, other = (unpack_codes(m.codes, m.rows, m.bits) for m in (a, b))
    differs = one ^ other
    parts = range(0, a.bits, cell_bits)
    mask = (1 << cell_bits) - 1
    cells = sum(int(np.count_nonzero(differs >> low & mask)) for low in parts)
    groups = (untile_rows(m.group_scale, m.rows) for m in (a, b))
    rows = (a.row_mantissa != b.row_mantissa) | (a.row_exponent != b.row_exponent)
    scales = int(np.count_nonzero(np.not_equal(*groups)) + np.count_nonzero(rows))
    total = one.size
    changed = int(np.count_nonzero(differs))
    return MatrixChange(name, total, changed, total * len(parts), cells, scales)


def changed_tables(a: RomImage, b: RomImage) -> list[str]:
    """Names of tables (rotary, gains, biases) that differ; they are in the masks, too."""
    return [n for n, table in a.vectors.items() if not np.array_equal(table, b.vectors[n])]


@dataclass(frozen=True, slots=True)
class Price:
    """Of a new mask set for a known base die; (low, value, high)."""

    masks: tuple[float, float, float]  # $
    work: tuple[float, float, float]  # $
    months: tuple[float, float, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def price(economics: Economics) -> Price:
    def of(key: str) -> tuple[float, float, float]:
        constant = economics.constants[key]
        return constant.range[0], constant.value, constant.range[1]

    return Price(of("nre.model_masks"), of("nre.model_work"), of("nre.wait"))

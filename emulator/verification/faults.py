"""Faults in the masks, the fabric and the KV SRAM of an opened image, which stays as it is.

Each kind hits its units (cells, rows, .., bits) independently with the same probability, by a
generator whose seed says which. Only arrays that are hit are copied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from emulator.blocks.kv_sram import KvSram
from emulator.blocks.weight_fabric import WeightFabric
from emulator.blocks.wires import Block, Wires
from emulator.chip import Chip
from emulator.silicon.cost import Cost
from emulator.silicon.spec import ChipSpec, load_spec
from kernels.rom.pack import FIELDS, TILE_BYTES, TILE_COLUMNS, TILE_ROWS, VECTORS, PackedMatrix
from weights.rom import RomImage

LANES = int(load_spec().fabric.lanes.value)  # activations a cycle
KINDS = {
    "flip": "one bit of a ROM cell's code reads inverted",
    "stuck": "a ROM cell reads code 0, as if nothing were selected",
    "row": "an output row of a matrix is dead and adds nothing",
    "bank": "64 neighbouring output rows are dead",
    "column": "an input column of a matrix is dead: its products are 0",
    "lane": f"one of {LANES} input lanes of a matrix is dead: every {LANES}th column",
    "kv": "a stored bit of a key or value in the KV SRAM is inverted",
}
MASKS, INPUTS, MEMORY = ("flip", "stuck", "row", "bank"), ("column", "lane"), ("kv",)
BANK_ROWS = 64  # assumed: nothing public says how rows share a sense amplifier


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault, its rate (a unit's probability) and the seed of its places."""

    kind: str  # one of KINDS
    rate: float
    seed: int = 0

    def generator(self, name: str) -> np.random.Generator:
        """Of one matrix or SRAM: its faults do not depend on what else is hit."""
        return np.random.default_rng([self.seed, *self.kind.encode(), 0, *name.encode()])


def faulty_image(image: RomImage, fault: Fault, places: set[str]) -> tuple[RomImage, int]:
    """The image with faults in the masks of the matrices `places`; and how many units were hit."""
    if fault.kind not in MASKS:
        return image, 0
    matrices, hits = dict(image.matrices), 0
    for name in places:
        matrix = image.matrices[name]
        matrices[name], more = _faulty_matrix(matrix, fault, fault.generator(name))
        hits += more
    return replace(image, matrices=matrices), hits


def faulty_chip(
    image: RomImage, fault: Fault, places: set[str], context: int | None = None
) -> tuple[Chip, int]:
    """A chip with the faults, and how many units of the masks or inputs were hit.

    Bits of the KV SRAM are hit as they are written and are not counted. `places` are names of
    matrices; of KV SRAMs, that of the layer's k stands for it.
    """
    changed, hits = faulty_image(image, fault, places)
    chip = Chip(changed, context)
    for stage in chip.stages:
        number = stage.name.removeprefix("layer ")
        for i, block in enumerate(stage.blocks):
            if fault.kind in INPUTS and isinstance(block, WeightFabric):
                stem = f"layers.{number}." if stage.name.startswith("layer ") else ""
                stage.blocks[i], more = _dead_inputs(block, fault, places, stem, image)
                hits += more
            elif fault.kind in MEMORY and isinstance(block, KvSram):
                name = f"layers.{number}.k"
                if name in places and fault.rate > 0:
                    stage.blocks[i] = WeakSram(block, fault, name)
    return chip, hits


def units(matrix: PackedMatrix, kind: str) -> int:
    """How many units a matrix has that a fault of this kind can hit."""
    return {
        "flip": matrix.rows * matrix.columns,
        "stuck": matrix.rows * matrix.columns,
        "row": matrix.rows,
        "bank": -(-matrix.rows // BANK_ROWS),
        "column": matrix.columns,
        "lane": LANES,
        "kv": 0,
    }[kind]


def hit_units(count: int, rate: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Numbers of the hit ones of `count` units, rising."""
    n = int(rng.binomial(count, rate))
    if n == 0:
        return np.empty(0, np.int64)
    if n > count // 8:  # many: any `n` of all
        return np.sort(rng.permutation(count)[:n])
    hit = np.unique(rng.integers(0, count, n))
    while hit.size < n:  # drawn twice: draw again
        hit = np.unique(np.append(hit, rng.integers(0, count, n - hit.size)))
    return hit


def _faulty_matrix(
    matrix: PackedMatrix, fault: Fault, rng: np.random.Generator
) -> tuple[PackedMatrix, int]:
    hit = hit_units(units(matrix, fault.kind), fault.rate, rng)
    if hit.size == 0:
        return matrix, 0
    if fault.kind in ("row", "bank"):
        size = BANK_ROWS if fault.kind == "bank" else 1
        rows = (hit[:, None] * size + np.arange(size)).reshape(-1)
        mantissa = matrix.row_mantissa.copy()
        mantissa[rows[rows < matrix.rows]] = 0  # an empty row
        return replace(matrix, row_mantissa=mantissa), hit.size
    codes = matrix.codes.copy()
    cells = np.divmod(hit, matrix.columns)
    if fault.kind == "flip":
        bits = rng.integers(0, matrix.bits, hit.size)
        places, masks = cell_bits(matrix, *cells, bits)
        np.bitwise_xor.at(codes.reshape(-1), places, masks)
    else:
        for bit in range(matrix.bits):
            places, masks = cell_bits(matrix, *cells, np.full(hit.size, bit))
            np.bitwise_and.at(codes.reshape(-1), places, ~masks)
    return replace(matrix, codes=codes), hit.size


def cell_bits(
    matrix: PackedMatrix,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    bits: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Where a bit of a cell's code lies: its byte among all of `codes`, and its mask there."""
    word = np.zeros((VECTORS, matrix.bits), np.int64)
    place = np.zeros((VECTORS, matrix.bits), np.int64)
    for v, low, width, at_word, at_bit in FIELDS[matrix.bits]:
        for i in range(width):
            word[v, low + i], place[v, low + i] = at_word, at_bit + i
    tile, row = np.divmod(rows, TILE_ROWS)
    chunk, column = np.divmod(columns, TILE_COLUMNS)
    vector, lane = np.divmod(column, TILE_COLUMNS // VECTORS)
    code = TILE_COLUMNS // VECTORS * row + lane
    chunks, size = matrix.columns // TILE_COLUMNS, TILE_BYTES[matrix.bits]
    byte = (tile * chunks + chunk) * size + TILE_COLUMNS * word[vector, bits] + code
    return byte, np.left_shift(1, place[vector, bits]).astype(np.uint8)


def _dead_inputs(
    block: WeightFabric, fault: Fault, places: set[str], stem: str, image: RomImage
) -> tuple[Block, int]:
    """Dead columns are those of one matrix; another that shares the input still has them."""
    head = "embedding" if image.config.tied else "head"
    dead: dict[str, NDArray[np.int8]] = {}
    hits = 0
    for wire, matrix in block.matrices.items():
        name = f"{stem}{MATRIX_OF.get((block.name, wire), wire)}" if stem else head
        if name in places:
            hit = hit_units(units(matrix, fault.kind), fault.rate, fault.generator(name))
            columns = np.arange(matrix.columns)
            if hit.size:
                kept = ~np.isin(columns % LANES if fault.kind == "lane" else columns, hit)
                dead[wire], hits = kept.astype(np.int8), hits + hit.size
    return (DeadInputs(block, dead), hits) if dead else (block, 0)


MATRIX_OF = {("fabric_o", "delta"): "o", ("fabric_down", "delta"): "down"}


@dataclass(frozen=True, slots=True)
class DeadInputs:
    """A weight fabric some of whose inputs do not reach a matrix."""

    fabric: WeightFabric
    alive: dict[str, NDArray[np.int8]]  # output wire -> [columns], 0 where dead

    @property
    def name(self) -> str:
        return self.fabric.name

    def run(self, ops: ModuleType, wires: Wires) -> None:
        """Each matrix alone, on what reaches it."""
        x = wires.x
        for wire, matrix in self.fabric.matrices.items():
            wires.x = x * self.alive[wire] if wire in self.alive else x
            replace(self.fabric, matrices={wire: matrix}).run(ops, wires)
        wires.x = x

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        return self.fabric.cost(spec, context)


@dataclass(frozen=True, slots=True)
class WeakSram:
    """A KV SRAM whose stored bits flip as they are written; scales are taken to be protected."""

    sram: KvSram
    fault: Fault
    place: str
    name: str = "kv_sram"

    def run(self, ops: ModuleType, wires: Wires) -> None:
        """The same bits of a position fail whenever it is written, alone or among others."""
        self.sram.run(ops, wires)
        for position in range(wires.start, wires.start + wires.tokens.size):
            rng = self.fault.generator(f"{self.place}.{position}")
            for array in (self.sram.k, self.sram.v):
                stored = array[position].reshape(-1).view(np.uint8)  # a view: it is contiguous
                hit = hit_units(8 * stored.size, self.fault.rate, rng)
                np.bitwise_xor.at(stored, hit // 8, np.left_shift(1, hit % 8).astype(np.uint8))
                np.maximum(array[position], -127, out=array[position])  # -128 is not used

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        return self.sram.cost(spec, context)

"""Faults in the masks, the fabric and the KV SRAM of an opened image, which stays as it is.

Each kind hits its units (cells, rows, .., bits) independently with the same probability, by a
generator whose seed says which. Only arrays that are hit are copied.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from types import ModuleType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.blocks.kv_sram import KvSram
from emulator.blocks.weight_fabric import FabricSums, WeightFabric
from emulator.blocks.wires import Wires
from emulator.chip import Chip, build_stages
from emulator.silicon.spec import ChipSpec
from kernels.rom.pack import BIT_PLACES, TILE_BYTES, TILE_COLUMNS, TILE_ROWS, VECTORS, PackedMatrix
from weights.lora import Adapter
from weights.rom import RomImage

KINDS = {  # what each means; `meaning` fills in the chip's numbers
    "flip": "one bit of a ROM cell's code reads inverted",
    "stuck": "a ROM cell reads code 0, as if nothing were selected",
    "row": "an output row of a matrix is dead and adds nothing",
    "bank": "{bank_rows} neighbouring output rows are dead",
    "column": "an input column of a matrix is dead: its products are 0",
    "lane": "one of {lanes} input lanes of a matrix is dead: every {lanes}th column",
    "kv": "a stored bit of a key or value in the KV SRAM is inverted",
}
MASKS, INPUTS, MEMORY = ("flip", "stuck", "row", "bank"), ("column", "lane"), ("kv",)


def meaning(kind: str, spec: ChipSpec) -> str:
    """What a kind of KINDS breaks on this chip, in one line."""
    fabric = spec.fabric
    return KINDS[kind].format(lanes=int(fabric.lanes), bank_rows=int(fabric.bank_rows))


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault, its rate (a unit's probability) and the seed that says where."""

    kind: str  # one of KINDS
    rate: float
    seed: int = 0

    def generator(self, name: str) -> np.random.Generator:
        """Of one matrix or SRAM: its faults do not depend on what else is hit."""
        return np.random.default_rng([self.seed, *self.kind.encode(), 0, *name.encode()])


def faulty_image(
    image: RomImage, fault: Fault, names: set[str], spec: ChipSpec
) -> tuple[RomImage, int]:
    """The image with faults in the masks of the matrices `names`; and how many units were hit.

    `spec` says how many rows make a bank.
    """
    if fault.kind not in MASKS:
        return image, 0
    matrices, hits = dict(image.matrices), 0
    for name in names:
        matrix = image.matrices[name]
        matrices[name], more = _faulty_matrix(matrix, fault, fault.generator(name), spec)
        hits += more
    return replace(image, matrices=matrices), hits


def faulty_chip(
    image: RomImage,
    fault: Fault,
    names: set[str],
    spec: ChipSpec,
    context: int | None = None,
    patch: Adapter | None = None,
) -> tuple[Chip, int]:
    """A chip with the faults, and how many units of the masks or inputs were hit.

    Bits of the KV SRAM are hit as they are written and are not counted. `names` are those of
    matrices; of KV SRAMs, that of the layer's k stands for it. `spec` says how many lanes a fabric
    has and how many rows make a bank. `patch` is a repair in the adapter SRAM.
    """
    changed, hits = faulty_image(image, fault, names, spec)
    chip = Chip(changed, context)
    if patch is not None:
        chip.stages = build_stages(changed, chip.positions, patch.matrices)
    name_of = {id(matrix): name for name, matrix in changed.matrices.items()}
    for stage in chip.stages:
        for i, block in enumerate(stage.blocks):
            if fault.kind in INPUTS and isinstance(block, WeightFabric):
                of_wire = {wire: name_of[id(m)] for wire, m in block.matrices.items()}
                chosen = {wire: name for wire, name in of_wire.items() if name in names}
                stage.blocks[i], more = _dead_inputs(block, fault, chosen, spec)
                hits += more
            elif fault.kind in MEMORY and isinstance(block, KvSram):
                name = f"layers.{stage.layer}.k"
                if name in names and fault.rate > 0:
                    own = {f.name: getattr(block, f.name) for f in fields(block)}
                    stage.blocks[i] = WeakSram(**own, fault=fault, place=name)
    return chip, hits


def units(matrix: PackedMatrix, kind: str, spec: ChipSpec) -> int:
    """How many units a matrix has that a fault of this kind can hit."""
    return {
        "flip": matrix.rows * matrix.columns,
        "stuck": matrix.rows * matrix.columns,
        "row": matrix.rows,
        "bank": -(-matrix.rows // int(spec.fabric.bank_rows)),
        "column": matrix.columns,
        "lane": int(spec.fabric.lanes),
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
    matrix: PackedMatrix, fault: Fault, rng: np.random.Generator, spec: ChipSpec
) -> tuple[PackedMatrix, int]:
    hit = hit_units(units(matrix, fault.kind, spec), fault.rate, rng)
    if hit.size == 0:
        return matrix, 0
    if fault.kind in ("row", "bank"):
        size = int(spec.fabric.bank_rows) if fault.kind == "bank" else 1
        rows = (hit[:, None] * size + np.arange(size)).reshape(-1)
        rows = rows[rows < matrix.rows]
        scale = matrix.group_scale.copy()  # the row's sum is 0; its scale is there for a repair
        scale[rows // TILE_ROWS, :, rows % TILE_ROWS] = 0
        return replace(matrix, group_scale=scale), hit.size
    codes = matrix.codes.copy()
    cells = np.divmod(hit, matrix.columns)
    if fault.kind == "flip":
        bits = rng.integers(0, matrix.bits, hit.size)
        bytes_, masks = cell_bits(matrix, *cells, bits)
        np.bitwise_xor.at(codes.reshape(-1), bytes_, masks)
    else:
        for bit in range(matrix.bits):
            bytes_, masks = cell_bits(matrix, *cells, np.full(hit.size, bit))
            np.bitwise_and.at(codes.reshape(-1), bytes_, ~masks)
    return replace(matrix, codes=codes), hit.size


def cell_bits(
    matrix: PackedMatrix,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    bits: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Where a bit of a cell's code lies: its byte among all of `codes`, and its mask there."""
    tile, row = np.divmod(rows, TILE_ROWS)
    chunk, column = np.divmod(columns, TILE_COLUMNS)
    vector, lane = np.divmod(column, TILE_COLUMNS // VECTORS)
    code = TILE_COLUMNS // VECTORS * row + lane
    chunks, size = matrix.columns // TILE_COLUMNS, TILE_BYTES[matrix.bits]
    word, place = np.moveaxis(BIT_PLACES[matrix.bits][vector, bits], -1, 0)
    byte = (tile * chunks + chunk) * size + TILE_COLUMNS * word + code
    return byte, np.left_shift(1, place).astype(np.uint8)


def _dead_inputs(
    block: WeightFabric, fault: Fault, names: dict[str, str], spec: ChipSpec
) -> tuple[WeightFabric, int]:
    """The fabric with dead inputs of the matrices `names`, by output wire.

    Dead columns are those of one matrix; another that shares the input still has them.
    """
    dead: dict[str, NDArray[np.int8]] = {}
    hits = 0
    for wire, name in names.items():
        columns = block.matrices[wire].columns
        count = units(block.matrices[wire], fault.kind, spec)
        hit = hit_units(count, fault.rate, fault.generator(name))
        if hit.size:  # `count` units take the columns in turn
            kept = ~np.isin(np.arange(columns) % count, hit)
            dead[wire], hits = kept.astype(np.int8), hits + hit.size
    if not dead:
        return block, 0
    kind = DeadSums if isinstance(block, FabricSums) else DeadInputs
    return kind(block.name, block.matrices, block.head_dim, alive=dead), hits


@dataclass(frozen=True, slots=True)
class DeadInputs(WeightFabric):
    """A weight fabric some of whose inputs do not reach a matrix."""

    recordable: ClassVar[bool] = False

    alive: dict[str, NDArray[np.int8]] = field(default_factory=dict)  # wire -> [columns], 0: dead

    def run(self, ops: ModuleType, wires: Wires) -> None:
        """Each matrix alone, on what reaches it."""
        x = wires.x
        for wire, matrix in self.matrices.items():
            wires.x = x * self.alive[wire] if wire in self.alive else x
            WeightFabric(self.name, {wire: matrix}, self.head_dim).run(ops, wires)
        wires.x = x


@dataclass(frozen=True, slots=True)
class DeadSums(FabricSums):
    """The same where an adapter adds to the sums: its own inputs are alive."""

    recordable: ClassVar[bool] = False

    alive: dict[str, NDArray[np.int8]] = field(default_factory=dict)

    def run(self, ops: ModuleType, wires: Wires) -> None:
        x, sums = wires.x, []
        for wire, matrix in self.matrices.items():
            reaching = x * self.alive[wire] if wire in self.alive else x
            sums.append(ops.fabric_sums((matrix,), reaching))
        wires.sums = np.concatenate(sums, axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakSram(KvSram):
    """A KV SRAM whose stored bits flip as they are written; scales are taken to be protected."""

    recordable: ClassVar[bool] = False

    fault: Fault
    place: str  # its name, by which its faults differ from another layer's

    def run(self, ops: ModuleType, wires: Wires) -> None:
        """The same bits of a position fail whenever it is written, alone or among others."""
        KvSram.run(self, ops, wires)
        for position, row in zip(wires.positions, wires.rows, strict=True):
            rng = self.fault.generator(f"{self.place}.{position}")
            for array in (self.k, self.v):
                stored = array[row].reshape(-1).view(np.uint8)  # a view: it is contiguous
                hit = hit_units(8 * stored.size, self.fault.rate, rng)
                np.bitwise_xor.at(stored, hit // 8, np.left_shift(1, hit % 8).astype(np.uint8))
                np.maximum(array[row], -127, out=array[row])  # -128 is not used

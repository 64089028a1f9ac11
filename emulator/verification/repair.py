"""Repair of broken masks: a patch in the adapter SRAM for what a test of the die has found.

A broken cell is known by its place and by what it should hold, so its patch is exact: a single cell
of the SRAM adds the difference. A dead row or input is missing as a whole; its weights come back as
a product B A of as many ranks as rows or inputs are missing, or of the most that the SRAM gives,
chosen by the energy of the calibration inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from emulator.blocks.plain_matrix import chosen_rows
from emulator.blocks.weight_fabric import WeightFabric
from emulator.blocks.wires import Wires
from emulator.chip import Chip
from emulator.fixedpoint import scale_value
from emulator.silicon.spec import ChipSpec
from emulator.verification.faults import INPUTS, Fault, faulty_image, hit_units, units
from kernels.reference import levels, row_scales
from kernels.rom.pack import TILE_COLUMNS, TILE_ROWS, PackedMatrix, unpack_codes
from kernels.sram_matrix import MOST_RANK, SramMatrix, nothing, sram_bits
from weights.lora import Adapter, quantised
from weights.peft_adapter import LowRank
from weights.rom import RomImage

Float64 = NDArray[np.float64]
Energies = dict[str, Float64]  # of a matrix' inputs: mean squares, [columns]


@dataclass(frozen=True, slots=True)
class Cells:
    """Broken cells of one matrix and what each lacks, in steps of the row's sum."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    lacks: NDArray[np.int64]

    def only(self, kept: NDArray[np.bool_]) -> Cells:
        return Cells(self.rows[kept], self.columns[kept], self.lacks[kept])


def input_energies(image: RomImage, windows: list[list[int]]) -> Energies:
    """Mean squares of what every matrix of a layer reads, over windows of tokens."""
    chip = Chip(image, max(len(ids) for ids in windows))
    name_of = {id(matrix): name for name, matrix in image.matrices.items()}
    sums: Energies = {}
    for ids in windows:
        wires = Wires(np.array(ids, np.int64), 0, False)
        for block in (block for stage in chip.stages for block in stage.blocks):
            if isinstance(block, WeightFabric):
                x = wires.x * scale_value(wires.x_scale)[:, None]
                for matrix in block.matrices.values():
                    name = name_of[id(matrix)]
                    sums[name] = sums.get(name, 0.0) + np.square(x).sum(axis=0)
            block.run(chip.ops, wires)
    count = sum(len(ids) for ids in windows)
    return {name: total / count for name, total in sums.items()}


def patch_of(
    image: RomImage,
    fault: Fault,
    names: set[str],
    spec: ChipSpec,
    energies: Energies,
    budget_bits: int,
    rank: int = MOST_RANK,
) -> Adapter:
    """The patch of a fault in the sound image's matrices `names`, of at most `budget_bits`.

    Most valuable first: what brings back the most energy of the outputs for a bit of SRAM.
    """
    broken, _ = faulty_image(image, fault, names, spec)
    offers: list[tuple[float, str, SramMatrix]] = []
    cells: dict[str, Cells] = {}
    for name in sorted(names):
        matrix, energy = image.matrices[name], energies[name]
        if fault.kind in INPUTS:
            count = units(matrix, fault.kind, spec)
            hit = hit_units(count, fault.rate, fault.generator(name))
            dead = np.flatnonzero(np.isin(np.arange(matrix.columns) % count, hit))
            low = _dead_columns(matrix, dead, energy, rank) if dead.size else None
        elif fault.kind in ("row", "bank"):
            dead = dead_rows(matrix, broken.matrices[name])
            low = _dead_rows(matrix, dead, energy, rank) if dead.size else None
        else:
            cells[name], low = broken_cells(matrix, broken.matrices[name]), None
        if low is not None:
            side = quantised(low, matrix)
            worth = float((np.square(low.delta) * energy).sum())
            offers.append((worth / side.stored_bits, name, side))
    chosen = _within(offers, budget_bits)
    chosen |= _best_cells(image, cells, energies, budget_bits)
    return Adapter("repair", f"{fault.kind} {fault.rate:g} {fault.seed}", chosen)


def broken_cells(sound: PackedMatrix, broken: PackedMatrix) -> Cells:
    """Where two masks of a matrix differ in their codes; only tiles that differ are unpacked."""
    tile, chunk = np.nonzero((sound.codes != broken.codes).any(axis=-1))
    if tile.size == 0:
        none = np.empty(0, np.int64)
        return Cells(none, none, none)
    one, other = (
        unpack_codes(m.codes[tile, chunk][:, None], TILE_ROWS * tile.size, m.bits).reshape(
            tile.size, TILE_ROWS, TILE_COLUMNS
        )
        for m in (sound, broken)
    )
    i, row, column = np.nonzero(one != other)
    rows, columns = TILE_ROWS * tile[i] + row, TILE_COLUMNS * chunk[i] + column
    scale = sound.group_scale[tile[i], columns // sound.group, row].astype(np.int64)
    alphabet = sound.alphabet.astype(np.int64)
    lacks = (alphabet[one[i, row, column]] - alphabet[other[i, row, column]]) * scale
    return Cells(rows, columns, lacks).only((rows < sound.rows) & (lacks != 0))


def dead_rows(sound: PackedMatrix, broken: PackedMatrix) -> NDArray[np.int64]:
    """Numbers of the rows whose group scales differ."""
    tile, row = np.nonzero((sound.group_scale != broken.group_scale).any(axis=1))
    numbers = np.sort(TILE_ROWS * tile + row)
    return numbers[numbers < sound.rows]


def weights_of(matrix: PackedMatrix) -> Float64:
    """float64[rows, columns]"""
    return levels(matrix) * scale_value(row_scales(matrix))[:, None]


def _dead_rows(
    matrix: PackedMatrix, dead: NDArray[np.int64], energy: Float64, rank: int
) -> LowRank:
    """A holds the missing rows, B puts each in its place; of too many, their main directions."""
    missing = weights_of(chosen_rows(matrix, dead))
    place = np.zeros((matrix.rows, dead.size))
    place[dead, np.arange(dead.size)] = 1
    if dead.size > rank:
        _, vectors = np.linalg.eigh((missing * energy) @ missing.T)
        main = vectors[:, -rank:]
        place, missing = place @ main, main.T @ missing
    return _low_rank(missing, place)


def _dead_columns(
    matrix: PackedMatrix, dead: NDArray[np.int64], energy: Float64, rank: int
) -> LowRank:
    """A picks the missing inputs, B holds their weights; of too many, their main directions."""
    missing = weights_of(matrix)[:, dead]
    pick = np.zeros((dead.size, matrix.columns))
    pick[np.arange(dead.size), dead] = 1
    if dead.size > rank:
        root = np.sqrt(np.maximum(energy[dead], energy.max() * 1e-9))
        heard = missing * root
        _, vectors = np.linalg.eigh(heard.T @ heard)
        main = vectors[:, -rank:]
        missing, pick = heard @ main, (main.T / root) @ pick
    return _low_rank(pick, missing)


def _low_rank(a: Float64, b: Float64) -> LowRank:
    return LowRank(a.astype(np.float32), b.astype(np.float32))


def _within(offers: list[tuple[float, str, SramMatrix]], bits: int) -> dict[str, SramMatrix]:
    chosen = {}
    for _, name, side in sorted(offers, key=lambda offer: -offer[0]):
        if side.stored_bits <= bits:
            bits -= side.stored_bits
            chosen[name] = side
    return chosen


def _best_cells(
    image: RomImage, cells: dict[str, Cells], energies: Energies, bits: int
) -> dict[str, SramMatrix]:
    """The cells that are heard most, as many as fit."""
    worth, costs = {}, {}
    for name, own in cells.items():
        matrix = image.matrices[name]
        scale = scale_value(row_scales(matrix))[own.rows]
        worth[name] = np.square(own.lacks * scale) * energies[name][own.columns]
        costs[name] = np.full(own.rows.size, sram_bits(matrix.rows, matrix.columns, 0, 1))
    if not worth:
        return {}
    value, cost = np.concatenate(list(worth.values())), np.concatenate(list(costs.values()))
    order = np.argsort(-value, kind="stable")
    least = value[order][np.cumsum(cost[order]) <= bits].min(initial=np.inf)
    return {
        name: side
        for name, own in cells.items()
        if (side := _cell_patch(image.matrices[name], own.only(worth[name] >= least))) is not None
    }


def _cell_patch(matrix: PackedMatrix, cells: Cells) -> SramMatrix | None:
    if cells.rows.size == 0:
        return None
    order = np.argsort(cells.rows, kind="stable")
    return replace(
        nothing(matrix.columns, matrix.row_mantissa, matrix.row_exponent),
        cell_rows=cells.rows[order].astype(np.int32),
        cell_columns=cells.columns[order].astype(np.int32),
        cell_values=cells.lacks[order].astype(np.int16),
    )

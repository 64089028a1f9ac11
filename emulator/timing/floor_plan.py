"""The floor plan: which blocks sit where on the die, and on how many square millimetres.

The areas are those of `budget.area_parts`, shared out among layers and passes; their sum is the
die. Nothing public says where on the real die a block lies, so a plan has no coordinates: whoever
draws it chooses them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from emulator.blocks.embedding import Embedding
from emulator.blocks.kv_sram import KvSram
from emulator.blocks.sequencer import SEQUENCER
from emulator.blocks.weight_fabric import WeightFabric
from emulator.chip import Stage
from emulator.silicon.spec import ChipSpec
from emulator.timing.budget import At, Shape, area_parts, bit_lines, shape_of
from emulator.timing.energy import values_at
from kernels.rom.pack import PackedMatrix

PARTS_OF_SRAM = ("KV SRAM", "SRAM banks and ports")
FOR_ALL_LAYERS = ("attention", "vector unit", "rest")


@dataclass(frozen=True, slots=True)
class Place:
    """One area of the die; `blocks` names the blocks that are at work in it."""

    name: str
    layer: int | None  # None: used by every layer, or by none
    blocks: tuple[str, ...]
    area_mm2: dict[str, float]  # by part, as `area` names them

    @property
    def total_mm2(self) -> float:
        return sum(self.area_mm2.values())


def floor_plan(stages: list[Stage], spec: ChipSpec) -> list[Place]:
    """Every place of the die at the middle estimate: layers in order, then what they share.

    The KV SRAM is shared out evenly. A table that embedding and head read lies with the head.
    """
    at, shape = values_at(spec), shape_of(stages)
    return [*_places(stages, spec, at, shape)]


def _places(stages: list[Stage], spec: ChipSpec, at: At, shape: Shape) -> Iterator[Place]:
    parts = area_parts(at, shape)
    sram = {part: float(parts[part]) / max(shape.layers, 1) for part in PARTS_OF_SRAM}
    table = next(b.table for stage in stages for b in stage.blocks if isinstance(b, Embedding))
    read_by_head = False
    for stage in stages:
        for block in stage.blocks:
            if isinstance(block, WeightFabric):
                matrices = list(block.matrices.values())
                tied = any(matrix is table for matrix in matrices)
                read_by_head |= tied
                blocks = (block.name, Embedding.name) if tied else (block.name,)
                yield Place(block.name, stage.layer, blocks, _fabric(at, matrices))
            elif isinstance(block, KvSram):
                yield Place("kv_sram", stage.layer, ("kv_sram", "attention"), dict(sram))
    if not read_by_head:
        cells = {"ROM cells": _rom_mm2(at, table)}
        yield Place("embedding", None, (Embedding.name,), cells)
    if shared := _shared_adders_mm2(at, shape):
        fabrics = dict.fromkeys(
            b.name for stage in stages for b in stage.blocks if isinstance(b, WeightFabric)
        )
        yield Place("shared adders", None, tuple(fabrics), {"adders and scales": shared})
    busy = _blocks_by_unit(stages, spec)
    for part in FOR_ALL_LAYERS:
        yield Place(part, None, busy.get(part, ()), {part: float(parts[part])})


def _fabric(at: At, matrices: list[PackedMatrix]) -> dict[str, float]:
    """A pass's ROM, and its rows' own adders, or its switches to the shared ones."""
    lanes, owned = at("fabric.lanes"), at("fabric.owned")
    adders = at("transistors.row") + at("transistors.row_lane") * lanes
    row = owned * adders + (1 - owned) * lanes * at("transistors.switch")
    rows = sum(matrix.rows for matrix in matrices)
    return {
        "ROM cells": sum(_rom_mm2(at, matrix) for matrix in matrices),
        "adders and scales": float(rows * row / 1e9 * at("area.logic")),
    }


def _rom_mm2(at: At, matrix: PackedMatrix) -> float:
    """Of one matrix: a weight wider than a cell takes several, and its scales take some too."""
    bits, weights = at("fabric.cell_bits"), matrix.rows * matrix.columns
    cells = weights * -(-matrix.bits // bits) + (matrix.stored_bits - weights * matrix.bits) / bits
    return float(cells * at("area.cell") * bit_lines(bits) / bit_lines(4) * 1e-6)


def _shared_adders_mm2(at: At, shape: Shape) -> float:
    adders = at("transistors.row") + at("transistors.row_lane") * at("fabric.lanes")
    return float((1 - at("fabric.owned")) * shape.widest_rows * adders / 1e9 * at("area.logic"))


def _blocks_by_unit(stages: list[Stage], spec: ChipSpec) -> dict[str, tuple[str, ...]]:
    """Names of the blocks that keep the units busy which all layers share."""
    names: dict[str, dict[str, None]] = {part: {} for part in FOR_ALL_LAYERS}
    names["rest"][SEQUENCER.name] = None
    for stage in stages:
        for block in stage.blocks:
            units = {phase.unit for phase in block.cost(spec, 1).phases}
            if "vector" in units:
                names["vector unit"][block.name] = None
            if units & {"keys", "values"}:  # the two MAC arrays
                names["attention"][block.name] = None
            if "top_k" in units:
                names["rest"][block.name] = None
    return {part: tuple(found) for part, found in names.items()}

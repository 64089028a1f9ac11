"""What an architecture takes: transistors, square millimetres and joules, as sums of parts.

Every formula reads its constants through `at("section.key")`, which answers with a number, or with
an array that holds one value for each of many chips; the sums come out alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from emulator.blocks.attention import Attention
from emulator.blocks.embedding import Embedding
from emulator.blocks.kv_sram import SCALE_BITS, KvSram
from emulator.blocks.weight_fabric import WeightFabric
from emulator.chip import Stage
from emulator.silicon.cost import Cost
from kernels.rom.pack import PackedMatrix

PICO, GIGA, MICRO2 = 1e-12, 1e9, 1e-6  # MICRO2: um2 in mm2
At = Callable[[str], Any]
Parts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model needs silicon, whatever the chip."""

    rows: int  # of all matrices that the fabric multiplies by
    widest_rows: int  # of the largest pass: as many adders as layers can share
    weights: dict[int, int]  # by bits, the embedding's among them
    other_bits: int  # scales
    layers: int
    kv_heads: int
    head_dim: int
    windows: dict[int, int]  # positions that a layer attends to -> how many such layers


def shape_of(stages: list[Stage]) -> Shape:
    """Of a chip's blocks; a table that embedding and head share is counted once."""
    blocks = [block for stage in stages for block in stage.blocks]
    passes = [list(b.matrices.values()) for b in blocks if isinstance(b, WeightFabric)]
    matrices: list[PackedMatrix] = [matrix for one in passes for matrix in one]
    rows = [sum(matrix.rows for matrix in one) for one in passes]
    tables = [b.table for b in blocks if isinstance(b, Embedding)]
    stored = matrices + [t for t in tables if all(t is not matrix for matrix in matrices)]
    srams = [block for block in blocks if isinstance(block, KvSram)]
    windows = Counter(block.window for block in blocks if isinstance(block, Attention))
    weights: dict[int, int] = {}
    for matrix in stored:
        weights[matrix.bits] = weights.get(matrix.bits, 0) + matrix.rows * matrix.columns
    codes = sum(bits * count for bits, count in weights.items())
    return Shape(
        rows=sum(rows),
        widest_rows=max(rows),
        weights=weights,
        other_bits=sum(matrix.stored_bits for matrix in stored) - codes,
        layers=len(srams),
        kv_heads=srams[0].kv_heads if srams else 0,
        head_dim=srams[0].head_dim if srams else 0,
        windows=dict(windows),
    )


def cells(at: At, shape: Shape) -> Any:
    """ROM cells: a weight wider than a cell takes several."""
    bits = at("fabric.cell_bits")
    codes = sum(count * np.ceil(width / bits) for width, count in shape.weights.items())
    return codes + shape.other_bits / bits


def bit_lines(bits: Any) -> Any:
    """n lines over a cell whose one transistor joins two of them, or none.

    That makes n (n - 1) / 2 + 1 states, at least 2^bits (WO 2025/217724).
    """
    return np.ceil((1 + np.sqrt(8 * (2.0**bits - 1) + 1)) / 2)


def sram_gigabits(at: At, shape: Shape) -> Any:
    """Of keys, values and their scales; a layer with a window holds no more than that."""
    position = shape.kv_heads * (shape.head_dim * at("kv_sram.value_bits") + SCALE_BITS)
    most = at("kv_sram.positions")
    held = sum(layers * np.minimum(window, most) for window, layers in shape.windows.items())
    return 2 * position * held / GIGA


def users_held(shape: Shape, positions: int, context: int) -> int:
    """Users whose keys and values fit, each at `context` positions, or as many as a window has."""
    windows = shape.windows or {positions: 0}
    return min(min(window, positions) // min(window, context) for window in windows)


def sram_banks(at: At) -> Any:
    """Banks that K and V need together to read at `bandwidth` each."""
    return 2 * np.ceil(at("kv_sram.bandwidth") / at("kv_sram.port"))


def adder_rows(at: At, shape: Shape) -> Any:
    """Rows that have adders: all, or as many as the widest pass."""
    owned = at("fabric.owned")
    return owned * shape.rows + (1 - owned) * shape.widest_rows


def transistor_parts(at: At, shape: Shape) -> Parts:
    """Billions of transistors."""
    lanes, shared = at("fabric.lanes"), 1 - at("fabric.owned")
    adders = at("transistors.row") + at("transistors.row_lane") * lanes
    switches = shared * shape.rows * lanes * at("transistors.switch")
    return {
        "ROM cells": cells(at, shape) * at("transistors.cell") / GIGA,
        "adders and scales": (adder_rows(at, shape) * adders + switches) / GIGA,
        "KV SRAM": sram_gigabits(at, shape) * at("transistors.sram"),
        "attention": 2 * at("attention.macs") * at("transistors.attention") / GIGA,
        "vector unit": at("vector.lanes") * at("transistors.vector") / GIGA,
        "rest": at("transistors.rest") + 0 * lanes,
    }


def area_parts(at: At, shape: Shape) -> Parts:
    """mm2; logic by its transistors."""
    count, logic = transistor_parts(at, shape), at("area.logic")
    wide = bit_lines(at("fabric.cell_bits")) / bit_lines(4)
    bank = at("area.sram_bank") + 8 * at("kv_sram.port") * at("area.sram_port")
    return {
        "ROM cells": cells(at, shape) * at("area.cell") * wide * MICRO2,
        "adders and scales": count["adders and scales"] * logic,
        "KV SRAM": sram_gigabits(at, shape) * at("area.sram"),
        "SRAM banks and ports": sram_banks(at) * bank * MICRO2,
        "attention": count["attention"] * logic,
        "vector unit": count["vector unit"] * logic,
        "rest": at("area.rest") + count["rest"] * logic,
    }


@dataclass(frozen=True, slots=True)
class Work:
    """What one token does, as `Cost` counts it; numbers, or an array with one for each chip."""

    macs: Any
    rom_bits: Any
    sram_bits: Any
    row_cycles: Any
    wire_bits: Any

    @classmethod
    def of(cls, cost: Cost) -> Work:
        return cls(
            cost.macs, cost.rom_bits, cost.sram_bits, cost.row_cycles, cost.wire_bits
        )  # fmt: skip


def overdrive(at: At) -> Any:
    """The supply that the clock asks for, over the one at 1 GHz."""
    ghz = at("clock.frequency") / GIGA
    return 1 + at("clock.voltage_slope") * (ghz - 1) / at("clock.voltage")


def dynamic_parts(at: At, shape: Shape, work: Work) -> Parts:
    """J of what one token moves; none of it flows while the chip waits."""
    square = overdrive(at) ** 2 * PICO
    half_edge = np.sqrt(total(area_parts(at, shape))) / 2
    return {
        "multiply-add": work.macs * at("energy.mac") * square,
        "accumulators": work.row_cycles * at("energy.accumulate") * square,
        "ROM": work.rom_bits * at("energy.rom") * square,
        "KV SRAM": work.sram_bits * at("energy.sram") * square,
        "wires": work.wire_bits * half_edge * at("energy.wire") * square,
    }


def static_parts(at: At, shape: Shape) -> Parts:
    """W that flow always."""
    count, cube = transistor_parts(at, shape), overdrive(at) ** 3
    memory = count["ROM cells"] + count["KV SRAM"]
    logic = total(count) - memory
    leaks = logic * at("energy.leakage_logic") + memory * at("energy.leakage_memory")
    return {"leakage": leaks * cube, "card": at("energy.card") + 0 * cube}


def power_parts(at: At, shape: Shape, work: Work, tokens_per_second: Any) -> Parts:
    """W of a card that makes so many tokens."""
    moving = {
        name: joule * tokens_per_second for name, joule in dynamic_parts(at, shape, work).items()
    }
    return moving | static_parts(at, shape)


def total(parts: Parts) -> Any:
    """Sum of the parts."""
    return sum(parts.values())

"""What each block reads and writes, and small, self-contained copies of blocks.

The tables are proved by tests: a block that is given only what it is said to read gives the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emulator.blocks.attention import Attention
from emulator.blocks.embedding import Embedding
from emulator.blocks.kv_sram import KvSram
from emulator.blocks.weight_fabric import WeightFabric
from emulator.blocks.wires import Block, Wires
from kernels.rom.pack import TILE_ROWS, PackedMatrix, row_tiles

MEMORY = ("k", "k_scale", "v", "v_scale")  # the arrays of a KV SRAM


class Ports(NamedTuple):
    """Wires of a block; `reads_memory` and `writes_memory` speak of the KV SRAM."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    reads_memory: bool = False
    writes_memory: bool = False


FABRIC_INPUT = ("x", "x_scale")
PORTS = {
    "embedding": Ports(("tokens",), ("residual",)),
    "rms_norm": Ports(("residual",), FABRIC_INPUT),
    "fabric_qkv": Ports(FABRIC_INPUT, ("q", "k", "v")),
    "rope": Ports(("q", "k"), ("q", "k")),
    "kv_sram": Ports(("q", "k", "v"), ("q8", "q8_scale"), writes_memory=True),
    "attention": Ports(("q8", "q8_scale"), FABRIC_INPUT, reads_memory=True),
    "fabric_o": Ports(FABRIC_INPUT, ("delta",)),
    "residual_add": Ports(("residual", "delta"), ("residual",)),
    "fabric_gate_up": Ports(FABRIC_INPUT, ("gate", "up")),
    "swiglu": Ports(("gate", "up"), FABRIC_INPUT),
    "fabric_down": Ports(FABRIC_INPUT, ("delta",)),
    "head_select": Ports(("residual",), ("residual",)),
    "final_norm": Ports(("residual",), FABRIC_INPUT),
    "fabric_head": Ports(FABRIC_INPUT, ("logits",)),
    "top_k": Ports(("logits",), ("top",)),
}


def fresh_wires(tokens: int, start: int, signals: dict[str, NDArray[Any]]) -> Wires:
    """Wires that carry these signals and nothing else; every token's logits are wanted."""
    ids = signals.get("tokens", np.zeros(tokens, np.int64))
    others = {name: array for name, array in signals.items() if name != "tokens"}
    return Wires(ids.astype(np.int64), start, True, **others)


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


def cut_block(block: Block, rows: int) -> Block:
    """The block with at most about `rows` outputs of each matrix, whole heads; others as they are.

    Rows of a fabric know nothing of each other.
    """
    if isinstance(block, Embedding):
        return replace(block, table=first_rows(block.table, rows))
    if not isinstance(block, WeightFabric):
        return block
    unit = max(block.head_dim, TILE_ROWS)
    rows = max(rows // unit, 1) * unit
    cut = {name: first_rows(matrix, rows) for name, matrix in block.matrices.items()}
    return replace(block, matrices=cut)


def memory_of(block: Block) -> KvSram | None:
    """The KV SRAM that a block reads or writes."""
    if isinstance(block, KvSram):
        return block
    return block.sram if isinstance(block, Attention) else None


def with_memory(block: Block, memory: dict[str, NDArray[Any]]) -> Block:
    """The block with an SRAM of its own that holds these arrays."""
    sram = memory_of(block)
    if sram is None:
        return block
    copies: dict[str, Any] = {name: array.copy() for name, array in memory.items()}
    own = replace(sram, **copies)
    return replace(block, sram=own) if isinstance(block, Attention) else own

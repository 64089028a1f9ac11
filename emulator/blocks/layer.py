"""One transformer layer: its blocks in the order in which a token meets them."""

from __future__ import annotations

from collections.abc import Mapping

from emulator.blocks.attention import Attention
from emulator.blocks.block import Block
from emulator.blocks.kv_sram import KvSram
from emulator.blocks.lora import Lora
from emulator.blocks.residual_add import ResidualAdd
from emulator.blocks.rms_norm import RmsNorm
from emulator.blocks.rope import Rope
from emulator.blocks.swiglu import SwiGlu
from emulator.blocks.weight_fabric import FabricSums, WeightFabric
from emulator.blocks.wires import Int16
from emulator.config import LlamaConfig
from kernels.rom.pack import PackedMatrix
from kernels.sram_matrix import SramMatrix, nothing


def layer_blocks(
    config: LlamaConfig,
    m: dict[str, PackedMatrix],  # q, k, v, o, gate, up, down
    rope: tuple[Int16, Int16],  # cosine and sine, [positions, head_dim / 2] Q1.14
    sram: KvSram,
    side: Mapping[str, SramMatrix] | None = None,  # what the adapter SRAM adds, by matrix
) -> list[Block]:
    """Norm, attention, norm, feed-forward."""
    side = side or {}
    norm = RmsNorm.of(config.hidden, config.rms_epsilon)
    cosine, sine = rope
    rotary = (config.heads + config.kv_heads) * config.head_dim
    return [
        norm,
        *_matrices("qkv", {"q": "q", "k": "k", "v": "v"}, m, side, config.head_dim),
        Rope(cosine, sine, rotary),
        sram,
        Attention.of(sram),
        *_matrices("o", {"delta": "o"}, m, side),
        ResidualAdd(config.hidden),
        norm,
        *_matrices("gate_up", {"gate": "gate", "up": "up"}, m, side),
        SwiGlu.of(config.ffn),
        *_matrices("down", {"delta": "down"}, m, side),
        ResidualAdd(config.hidden),
    ]


def _matrices(
    name: str,
    wires: dict[str, str],  # output wire -> matrix
    m: dict[str, PackedMatrix],
    side: Mapping[str, SramMatrix],
    head_dim: int = 0,
) -> list[Block]:
    """One pass through the masks, and what the adapter SRAM adds to it, if it does."""
    masks = {wire: m[matrix] for wire, matrix in wires.items()}
    if not any(matrix in side for matrix in wires.values()):
        return [WeightFabric(f"fabric_{name}", masks, head_dim)]
    sides = {
        wire: side.get(matrix)
        or nothing(m[matrix].columns, m[matrix].row_mantissa, m[matrix].row_exponent)
        for wire, matrix in wires.items()
    }
    return [
        FabricSums(f"sums_{name}", masks, head_dim),
        Lora.of(f"lora_{name}", sides, head_dim),
    ]

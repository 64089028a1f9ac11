"""One transformer layer: its blocks in the order in which a token meets them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from emulator.blocks.attention import Attention
from emulator.blocks.bias_add import BiasAdd
from emulator.blocks.block import Block
from emulator.blocks.head_norm import HeadNorm
from emulator.blocks.kv_sram import KvSram
from emulator.blocks.lora import Lora
from emulator.blocks.other_gates import gate_block
from emulator.blocks.residual_add import ResidualAdd
from emulator.blocks.rms_norm import RmsNorm
from emulator.blocks.rope import Rope
from emulator.blocks.weight_fabric import FabricSums, WeightFabric
from emulator.blocks.wires import Arrays, Int16
from emulator.config import LlamaConfig
from kernels.rom.pack import PackedMatrix
from kernels.sram_matrix import SramMatrix, nothing
from weights.checkpoint import BIAS, PASS_MATRICES
from weights.layer_vectors import EXPONENTS


def layer_blocks(
    config: LlamaConfig,
    layer: int,
    m: dict[str, PackedMatrix],  # q, k, v, o, gate, up, down
    vectors: Arrays,  # biases and head gains, as `weights.layer_vectors` stores them
    rope: tuple[Int16, Int16],  # cosine and sine, [positions, turning / 2] Q1.14
    sram: KvSram,
    side: Mapping[str, SramMatrix] | None = None,  # what the adapter SRAM adds, by matrix
) -> list[Block]:
    """Norm, attention, norm, feed-forward of layer `layer`."""
    side = side or {}
    norm = RmsNorm.of(config.hidden, config.rms_epsilon)
    cosine, sine = rope
    rotary = (config.heads + config.kv_heads) * config.turning

    def biased(name: str) -> list[Block]:
        """The bias of a pass, where the family has one."""
        if name not in config.biases:
            return []
        parts = [vectors[matrix + BIAS] for matrix in PASS_MATRICES[name]]
        return [BiasAdd.of(name, np.concatenate(parts))]

    return [
        norm,
        *_matrices("qkv", {"q": "q", "k": "k", "v": "v"}, m, side, config.head_dim),
        *biased("qkv"),
        *([_head_norm(config, vectors)] if config.head_norm else []),
        *([] if layer in config.unrotated else [Rope(cosine, sine, rotary)]),
        sram,
        Attention.of(sram, config.window_of(layer)),
        *_matrices("o", {"delta": "o"}, m, side),
        *biased("o"),
        ResidualAdd(config.hidden),
        norm,
        *_matrices("gate_up", {"gate": "gate", "up": "up"}, m, side),
        *biased("gate_up"),
        gate_block(config.activation, config.ffn),
        *_matrices("down", {"delta": "down"}, m, side),
        *biased("down"),
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
        Lora.of(f"lora_{name}", sides, head_dim, max(mask.bits for mask in masks.values())),
    ]


def _head_norm(config: LlamaConfig, vectors: Arrays) -> HeadNorm:
    q_exponent, k_exponent = (int(exponent) for exponent in vectors[EXPONENTS])
    gains = vectors["q_gain"], vectors["k_gain"]
    heads = config.heads, config.kv_heads
    return HeadNorm.of(heads, config.rms_epsilon, *gains, (q_exponent, k_exponent))

"""One transformer layer: its blocks in the order in which a token meets them."""

from __future__ import annotations

import numpy as np

from emulator.blocks.attention import Attention
from emulator.blocks.bias_add import BiasAdd
from emulator.blocks.block import Block
from emulator.blocks.head_norm import HeadNorm
from emulator.blocks.kv_sram import KvSram
from emulator.blocks.other_gates import gate_block
from emulator.blocks.residual_add import ResidualAdd
from emulator.blocks.rms_norm import RmsNorm
from emulator.blocks.rope import Rope
from emulator.blocks.weight_fabric import WeightFabric
from emulator.blocks.wires import Arrays, Int16
from emulator.config import LlamaConfig
from kernels.rom.pack import PackedMatrix
from weights.checkpoint import BIAS, PASS_MATRICES
from weights.layer_vectors import EXPONENTS


def layer_blocks(
    config: LlamaConfig,
    layer: int,
    m: dict[str, PackedMatrix],  # q, k, v, o, gate, up, down
    vectors: Arrays,  # biases and head gains, as `weights.layer_vectors` stores them
    rope: tuple[Int16, Int16],  # cosine and sine, [positions, turning / 2] Q1.14
    sram: KvSram,
) -> list[Block]:
    """Norm, attention, norm, feed-forward of layer `layer`."""
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
        WeightFabric("fabric_qkv", {"q": m["q"], "k": m["k"], "v": m["v"]}, config.head_dim),
        *biased("qkv"),
        *([_head_norm(config, vectors)] if config.head_norm else []),
        *([] if layer in config.unrotated else [Rope(cosine, sine, rotary)]),
        sram,
        Attention.of(sram, config.window_of(layer)),
        WeightFabric("fabric_o", {"delta": m["o"]}),
        *biased("o"),
        ResidualAdd(config.hidden),
        norm,
        WeightFabric("fabric_gate_up", {"gate": m["gate"], "up": m["up"]}),
        *biased("gate_up"),
        gate_block(config.activation, config.ffn),
        WeightFabric("fabric_down", {"delta": m["down"]}),
        *biased("down"),
        ResidualAdd(config.hidden),
    ]


def _head_norm(config: LlamaConfig, vectors: Arrays) -> HeadNorm:
    q_exponent, k_exponent = (int(exponent) for exponent in vectors[EXPONENTS])
    gains = vectors["q_gain"], vectors["k_gain"]
    heads = config.heads + config.kv_heads
    return HeadNorm.of(heads, config.rms_epsilon, *gains, (q_exponent, k_exponent))

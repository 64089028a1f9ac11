"""One transformer layer: its blocks in the order in which a token meets them."""

from __future__ import annotations

from emulator.blocks.attention import Attention
from emulator.blocks.block import Block
from emulator.blocks.kv_sram import KvSram
from emulator.blocks.residual_add import ResidualAdd
from emulator.blocks.rms_norm import RmsNorm
from emulator.blocks.rope import Rope
from emulator.blocks.swiglu import SwiGlu
from emulator.blocks.weight_fabric import WeightFabric
from emulator.blocks.wires import Int16
from emulator.config import LlamaConfig
from kernels.rom.pack import PackedMatrix


def layer_blocks(
    config: LlamaConfig,
    m: dict[str, PackedMatrix],  # q, k, v, o, gate, up, down
    rope: tuple[Int16, Int16],  # cosine and sine, [positions, head_dim / 2] Q1.14
    sram: KvSram,
) -> list[Block]:
    """Norm, attention, norm, feed-forward."""
    norm = RmsNorm.of(config.hidden, config.rms_epsilon)
    cosine, sine = rope
    rotary = (config.heads + config.kv_heads) * config.head_dim
    return [
        norm,
        WeightFabric("fabric_qkv", {"q": m["q"], "k": m["k"], "v": m["v"]}, config.head_dim),
        Rope(cosine, sine, rotary),
        sram,
        Attention.of(sram),
        WeightFabric("fabric_o", {"delta": m["o"]}),
        ResidualAdd(config.hidden),
        norm,
        WeightFabric("fabric_gate_up", {"gate": m["gate"], "up": m["up"]}),
        SwiGlu.of(config.ffn),
        WeightFabric("fabric_down", {"delta": m["down"]}),
        ResidualAdd(config.hidden),
    ]

"""One transformer layer: its blocks in the order in which a token meets them."""

from __future__ import annotations

from emulator.blocks.attention import Attention
from emulator.blocks.kv_sram import KvSram
from emulator.blocks.residual_add import ResidualAdd
from emulator.blocks.rms_norm import RmsNorm
from emulator.blocks.rope import Rope
from emulator.blocks.swiglu import SwiGlu
from emulator.blocks.weight_fabric import WeightFabric
from emulator.blocks.wires import Block
from weights.checkpoint import LAYER_MATRICES
from weights.rom import RomImage


def layer_blocks(image: RomImage, layer: int, sram: KvSram) -> list[Block]:
    """Norm, attention, norm, feed-forward."""
    config = image.config
    m = {name: image.matrices[f"layers.{layer}.{name}"] for name in LAYER_MATRICES}
    norm = RmsNorm.of(config.hidden, config.rms_epsilon)
    cosine, sine = image.vectors["rope_cosine"], image.vectors["rope_sine"]
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

"""LM head: the last norm, then the vocabulary's logits from the fabric."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

from emulator.blocks.block import Block
from emulator.blocks.rms_norm import FinalGain, RmsNorm
from emulator.blocks.weight_fabric import WeightFabric
from emulator.blocks.wires import Int16, Wires
from emulator.config import LlamaConfig
from emulator.silicon.cost import NOTHING, Cost
from emulator.silicon.spec import ChipSpec
from weights.rom import RomImage


@dataclass(frozen=True, slots=True)
class LastToken(Block):
    """Lets only the tokens whose logits are wanted through to the head: of a prompt the last."""

    name: ClassVar[str] = "head_select"
    reads: ClassVar[tuple[str, ...]] = ("residual",)
    writes: ClassVar[tuple[str, ...]] = ("residual",)

    def run(self, ops: ModuleType, wires: Wires) -> None:
        if wires.wanted.size < wires.tokens.size:
            wires.residual = wires.residual[wires.wanted]

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        return NOTHING


def head_blocks(image: RomImage) -> list[Block]:
    """The blocks after the last layer, without the top-k search."""
    config, vectors = image.config, image.vectors
    exponent = int(image.manifest.get("final_gain_exponent", 0))
    gain, mixer = vectors.get("final_gain"), vectors.get("residual_mixer")
    norm = final_norm(config, gain, exponent, mixer)
    table = image.matrices["embedding" if config.tied else "head"]
    return [LastToken(), norm, WeightFabric("fabric_head", {"logits": table})]


def final_norm(
    config: LlamaConfig, gain: Int16 | None, gain_exponent: int, mixer: Int16 | None
) -> Block:
    """The last norm; gain [hidden] and mixer [m, m] are a tied model's, None for others."""
    if gain is None or mixer is None:
        return RmsNorm.of(config.hidden, config.rms_epsilon)
    return FinalGain.of(gain, gain_exponent, mixer, config.rms_epsilon)

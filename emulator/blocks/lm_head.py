"""LM head: the last norm, then the vocabulary's logits from the fabric."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from emulator.blocks.rms_norm import FinalGain, RmsNorm
from emulator.blocks.weight_fabric import WeightFabric
from emulator.blocks.wires import Block, Wires
from emulator.silicon.cost import NOTHING, Cost
from emulator.silicon.spec import ChipSpec
from weights.rom import RomImage


@dataclass(frozen=True, slots=True)
class LastToken:
    """Lets only the last token of a prompt through to the head."""

    name: str = "head_select"

    def run(self, ops: ModuleType, wires: Wires) -> None:
        if not wires.all_logits:
            wires.residual = wires.residual[-1:]

    def cost(self, chip: ChipSpec, context: int) -> Cost:
        return NOTHING


def head_blocks(image: RomImage) -> list[Block]:
    """The blocks after the last layer, without the top-k search."""
    config = image.config
    norm: Block
    if config.tied:
        exponent = int(image.manifest["final_gain_exponent"])
        gain, mixer = image.vectors["final_gain"], image.vectors["residual_mixer"]
        norm = FinalGain.of(gain, exponent, mixer, config.rms_epsilon)
    else:
        norm = RmsNorm.of(config.hidden, config.rms_epsilon)
    table = image.matrices["embedding" if config.tied else "head"]
    return [LastToken(), norm, WeightFabric("fabric_head", {"logits": table})]

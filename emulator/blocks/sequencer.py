"""Sequencer: hands the residual stream from one layer to the next; it computes nothing.

How long each unit takes is known before a token starts, so a counter can send every enable ahead of
the data, and no unit waits to be told. What is left is the register between two layers: the layer's
last value is in, the next layer's word lines and the vector unit's inputs switch over.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

from emulator.blocks.block import Block
from emulator.blocks.wires import Wires
from emulator.silicon.cost import WHOLE_VECTOR, Cost, Phase
from emulator.silicon.spec import ChipSpec


@dataclass(frozen=True, slots=True)
class Sequencer(Block):
    """A layer's end, in time alone: every schedule puts one behind a layer's blocks."""

    name: ClassVar[str] = "sequencer"
    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]] = ()

    def run(self, ops: ModuleType, wires: Wires) -> None:
        """The next layer sees the same bits."""

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """The whole vector, then so many cycles."""
        return Cost((WHOLE_VECTOR, Phase(1, int(spec.sequencer.layer), unit="")))


SEQUENCER = Sequencer()

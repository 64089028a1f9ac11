"""Run text through two chips at once: one with nearly exact masks, one with those made so far."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from emulator.blocks.block import Block
from emulator.blocks.embedding import Embedding
from emulator.blocks.kv_sram import KvSram
from emulator.blocks.layer import layer_blocks
from emulator.blocks.wires import Wires
from emulator.config import LlamaConfig
from kernels.rom.pack import PackedMatrix
from weights.chained import Make
from weights.checkpoint import PASS_MATRICES
from weights.rope_table import rope_tables
from weights.stray import Signal, Stray

HELD_OUT = 6  # every sixth window tells how far to go with what the others ask for
TO_STREAM = ("o", "down")  # the passes that add to the residual stream


@dataclass(slots=True)
class ChipChain:
    """A `weights.chained.Chain`."""

    probe: Stream
    made: Stream

    def layer(
        self, layer: int, probe: dict[str, PackedMatrix], vectors: dict[str, NDArray], make: Make
    ) -> dict[str, PackedMatrix]:
        """Run the next layer on both chips, pass by pass, as soon as a pass's masks are made."""
        masks = dict(probe)
        for stage, name in enumerate(PASS_MATRICES):
            self.probe.advance(layer, stage, probe, vectors)
            self.made.advance(layer, stage, masks, vectors)
            masks |= make(name, lambda name=name: self._strays(name))  # type: ignore[misc]
        self.probe.advance(layer, len(PASS_MATRICES), probe, vectors)
        self.made.advance(layer, len(PASS_MATRICES), masks, vectors)
        return masks

    def _strays(self, name: str) -> tuple[Stray, Stray]:
        """What the pass at which both streams stand reads, and ought to read; see `Measure`."""
        hidden = self.made.config.hidden if name in TO_STREAM else None
        columns = self.made.wires[0].x.shape[1]
        fitted, held_out = Stray.of(columns, hidden), Stray.of(columns, hidden)
        for i, (right, one) in enumerate(zip(self.probe.wires, self.made.wires, strict=True)):
            lack = right.residual.astype(np.int64) - one.residual
            x, z = (Signal.of_wire(wires.x, wires.x_scale) for wires in (right, one))
            (held_out if i % HELD_OUT == 1 else fitted).add(z, x, lack)
        return fitted, held_out


@dataclass(slots=True)
class Stream:
    """Windows of text on their way through a chip, stopped before one of its fabrics."""

    config: LlamaConfig
    ops: ModuleType
    wires: list[Wires]

    @classmethod
    def of(
        cls, config: LlamaConfig, ops: ModuleType, windows: NDArray[np.int64], table: PackedMatrix
    ) -> Stream:
        """At the first layer, with an embedding table."""
        wires = [Wires(ids, 0, all_logits=True) for ids in windows]
        for one in wires:
            Embedding(table).run(ops, one)
        return cls(config, ops, wires)

    def advance(
        self, layer: int, stage: int, masks: dict[str, PackedMatrix], vectors: dict[str, NDArray]
    ) -> None:
        """Run a layer from its fabric `stage` - 1 up to the next; 0 begins it, 4 ends it."""
        length = self.wires[0].tokens.size
        rope = rope_tables(self.config, length)
        sram = KvSram.of(self.config, length)
        blocks = layer_blocks(self.config, layer, masks, vectors, rope, sram)
        for one in self.wires:
            for block in _part(blocks, stage):
                block.run(self.ops, one)


def _part(blocks: list[Block], stage: int) -> list[Block]:
    cuts = [i for i, block in enumerate(blocks) if block.name.startswith("fabric_")]
    cuts = [0, *cuts, len(blocks)]
    return blocks[cuts[stage] : cuts[stage + 1]]

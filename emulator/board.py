"""A board: chips with the same masks, whose passes this computer runs as one.

A pass reads the masks once, whoever's tokens are in it. Each chip has its sequence's rows of one KV
SRAM, so RoPE, the KV write and attention need to know no more than each token's position and row.
What a sequence gets is what its chip alone would give, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from emulator.blocks.kv_sram import KvSram
from emulator.blocks.wires import Wires
from emulator.chip import Chip, build_stages
from emulator.errors import UsageError
from weights.rom import RomImage


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens that one chip of a board runs next; see `Chip.forward`."""

    chip: int
    tokens: list[int]
    all_logits: bool = False


class Board:
    """Chips of one image, each with a sequence of its own. A chip also runs passes alone."""

    def __init__(
        self,
        image: RomImage,
        count: int,
        context: int | None = None,
        ops: ModuleType | None = None,
    ) -> None:
        if count < 1:
            raise UsageError(f"a board has at least 1 chip, not {count}")
        positions = min(context or image.context, image.context)
        srams = [KvSram.of(image.config, positions, count) for _ in range(image.config.layers)]
        parts = [sram.parts(count) for sram in srams]
        self.chips = [Chip(image, context, ops, [p[i] for p in parts]) for i in range(count)]
        self._rows = positions  # of a sequence
        blocks = [b for stage in build_stages(image, positions, srams) for b in stage.blocks]
        *self._blocks, self._search = blocks

    def forward(self, runs: Sequence[Run]) -> list[Wires]:
        """One pass over the runs of different chips; each one's wires, as `Chip.forward` gives.

        Raises as `Chip.forward` does, and UsageError where a chip has two runs; all KV SRAMs then
        stay as they were.
        """
        if len({run.chip for run in runs}) < len(runs):
            raise UsageError("a chip has one run in a pass")
        if len(runs) == 1:
            (run,) = runs
            return [self.chips[run.chip].forward(run.tokens, run.all_logits)]
        entered = [self.chips[run.chip].enter(run.tokens, run.all_logits) for run in runs]
        wires, ops = self._together(runs, entered), self.chips[0].ops
        for block in self._blocks:
            block.run(ops, wires)
        begin = 0
        for run, own in zip(runs, entered, strict=True):
            end = begin + own.wanted.size
            own.residual, own.logits = wires.residual[begin:end], wires.logits[begin:end]
            self._search.run(ops, own)
            self.chips[run.chip].tokens += own.tokens.tolist()
            begin = end
        return entered

    def _together(self, runs: Sequence[Run], entered: list[Wires]) -> Wires:
        """The wires of the pass: the tokens of all runs, one behind the other."""
        sizes = [own.tokens.size for own in entered]
        begins = np.cumsum([0, *sizes[:-1]])
        rows = [own.rows + run.chip * self._rows for run, own in zip(runs, entered, strict=True)]
        wanted = [own.wanted + begin for own, begin in zip(entered, begins, strict=True)]
        return Wires(
            np.concatenate([own.tokens for own in entered]),
            entered[0].start,
            False,
            np.concatenate([own.positions for own in entered]),
            np.concatenate(rows),
            np.concatenate(wanted),
        )

"""A board: chips with the same masks, whose passes this computer runs as one.

A pass reads the masks once, whoever's tokens are in it. Each chip has its sequence's rows of one KV
SRAM, so RoPE, the KV write and attention need to know no more than each token's position and row.
What a sequence gets is what its chip alone would give, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from emulator.blocks.block import Block
from emulator.blocks.kv_sram import KvSram, check_fits
from emulator.blocks.wires import Wires
from emulator.chip import Chip, Stage, build_stages
from emulator.errors import UsageError
from emulator.recorded_pass import Recorder
from weights.lora import Adapter
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
        adapters: Iterable[Adapter] = (),
    ) -> None:
        if count < 1:
            raise UsageError(f"a board has at least 1 chip, not {count}")
        if context is not None and context < 1:
            raise UsageError(f"a chip has at least 1 position, not {context}")
        positions = min(context or image.context, image.context)
        check_fits(image.config, positions)
        srams = [KvSram.of(image.config, positions, count) for _ in range(image.config.layers)]
        parts = [sram.parts(count) for sram in srams]
        self.chips = [
            Chip(image, context, ops, adapters, [part[i] for part in parts]) for i in range(count)
        ]
        self._image, self._srams, self._positions = image, srams, positions
        # The datapath on all chips' SRAMs, and the top-k search, by adapter.
        self._datapaths: list[tuple[Adapter | None, list[Stage], Block]] = []
        self._recorder = Recorder()

    def forward(self, runs: Sequence[Run]) -> list[Wires]:
        """One pass over the runs of different chips; each one's wires, as `Chip.forward` gives.

        Chips with another adapter are another pass. Raises as `Chip.forward` does, and UsageError
        where a chip has two runs; all KV SRAMs then stay as they were.
        """
        if len({run.chip for run in runs}) < len(runs):
            raise UsageError("a chip has one run in a pass")
        entered = [self.chips[run.chip].enter(run.tokens, run.all_logits) for run in runs]
        passes: dict[int, list[int]] = {}
        for i, run in enumerate(runs):
            passes.setdefault(id(self._adapter_of(run)), []).append(i)
        for members in passes.values():
            self._pass([runs[i] for i in members], [entered[i] for i in members])
        return entered

    def _pass(self, runs: list[Run], entered: list[Wires]) -> None:
        """One pass over chips that use the same adapter; it completes their wires."""
        if len(runs) == 1:
            self.chips[runs[0].chip].finish(entered[0])
            return
        ops, wires = self.chips[0].ops, self._together(runs, entered)
        stages, search = self._datapath_with(self._adapter_of(runs[0]))
        self._recorder.run(ops, stages, wires)
        begin = 0
        for run, own in zip(runs, entered, strict=True):
            end = begin + own.wanted.size
            own.residual, own.logits = wires.residual[begin:end], wires.logits[begin:end]
            search.run(ops, own)
            self.chips[run.chip].tokens += own.tokens.tolist()
            begin = end

    def _adapter_of(self, run: Run) -> Adapter | None:
        chip = self.chips[run.chip]
        return chip.adapters.get(chip.adapter)

    def _datapath_with(self, adapter: Adapter | None) -> tuple[list[Stage], Block]:
        """The stages without the top-k search, and the search; made once for an adapter."""
        for held, stages, search in self._datapaths:
            if held is adapter:
                return stages, search
        in_use = {id(a) for chip in self.chips for a in [None, *chip.adapters.values()]}
        self._datapaths = [path for path in self._datapaths if id(path[0]) in in_use]
        side = adapter.matrices if adapter is not None else None
        stages = build_stages(self._image, self._positions, side, self._srams)
        search = stages[-1].blocks.pop()
        self._datapaths.append((adapter, stages, search))
        return stages, search

    def _together(self, runs: Sequence[Run], entered: list[Wires]) -> Wires:
        """The wires of the pass: the tokens of all runs, one behind the other."""
        sizes = [own.tokens.size for own in entered]
        begins = np.cumsum([0, *sizes[:-1]])
        rows = [
            own.rows + run.chip * self._positions for run, own in zip(runs, entered, strict=True)
        ]
        wanted = [own.wanted + begin for own, begin in zip(entered, begins, strict=True)]
        return Wires(
            np.concatenate([own.tokens for own in entered]),
            entered[0].start,
            False,
            np.concatenate([own.positions for own in entered]),
            np.concatenate(rows),
            np.concatenate(wanted),
        )

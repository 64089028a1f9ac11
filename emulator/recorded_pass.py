"""Passes over few tokens, recorded: the next one of the same size repeats them in one go.

Between four hundred short calls a token, Python takes as long as the small model's arithmetic. A
recorded pass has wires of its own; a later one writes its tokens, positions and rows into them.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Protocol

import numpy as np

from emulator.blocks.block import Block
from emulator.blocks.wires import Wires

MOST_TOKENS = 16  # of a recorded pass; more of them keep the kernels busy anyway
KEPT_TOKENS = 40  # of all recorded passes; a token's signals take 6 MB at 8B
GIVEN = ("tokens", "positions", "rows")  # all that differs between two passes of a size
LEAVING = ("residual", "logits", "top")  # the signals that a caller gets, as copies


class Blocks(Protocol):
    """A stage of the chip."""

    @property
    def blocks(self) -> list[Block]: ...


class Recorder:
    """Runs passes through stages, from a record where there is one."""

    def __init__(self) -> None:
        self._passes: dict[int, RecordedPass] = {}  # by tokens, the latest last

    def run(self, ops: ModuleType, stages: Sequence[Blocks], wires: Wires) -> None:
        """Complete the wires of a pass. Kernels without `record` (the twins) run one by one.

        A change of the blocks in `stages` after a pass is not noticed; other stages are.
        """
        size = wires.tokens.size
        if not hasattr(ops, "record") or wires.wanted.size < size or size > MOST_TOKENS:
            _run(ops, stages, wires)
            return
        recorded = self._passes.pop(size, None)
        if recorded is None or recorded.stages is not stages:
            recorded = RecordedPass(ops, stages, wires)
        elif recorded.repeatable:
            recorded.repeat(wires)
        else:
            _run(ops, stages, wires)
        self._passes[size] = recorded
        while sum(self._passes) > KEPT_TOKENS:
            self._passes.pop(next(iter(self._passes)))


class RecordedPass:
    """A pass on wires of its own, and what the kernels did."""

    def __init__(self, ops: ModuleType, stages: Sequence[Blocks], wires: Wires) -> None:
        """Run the pass that `wires` begins, and complete them."""
        self.stages = stages
        given = {name: getattr(wires, name).copy() for name in GIVEN}
        self._wires = Wires(start=wires.start, all_logits=True, wanted=wires.wanted, **given)
        with ops.record() as self._recording:
            _run(ops, stages, self._wires)
        blocks = [block for stage in stages for block in stage.blocks]
        self.repeatable = self._recording.whole and all(block.recordable for block in blocks)
        self._hand_over(wires)

    def repeat(self, wires: Wires) -> None:
        """Complete the wires of another pass of this size."""
        for name in GIVEN:
            getattr(self._wires, name)[:] = getattr(wires, name)
        self._recording.again()
        self._hand_over(wires)

    def _hand_over(self, wires: Wires) -> None:
        for name in LEAVING:
            setattr(wires, name, np.copy(getattr(self._wires, name)))


def _run(ops: ModuleType, stages: Sequence[Blocks], wires: Wires) -> None:
    for stage in stages:
        for block in stage.blocks:
            block.run(ops, wires)

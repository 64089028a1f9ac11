"""Top-k: the chip hands the k best tokens to the sampler, k at most MAX_K."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

from emulator.blocks.block import Block
from emulator.blocks.wires import Wires
from emulator.config import MAX_K
from emulator.errors import ChipError
from emulator.silicon.cost import Cost, Phase, passes
from emulator.silicon.spec import ChipSpec


@dataclass(frozen=True, slots=True)
class TopK(Block):
    """Logits -> the ids of the 8 largest, of which a request uses the first k."""

    name: ClassVar[str] = "top_k"
    reads: ClassVar[tuple[str, ...]] = ("logits",)
    writes: ClassVar[tuple[str, ...]] = ("top",)

    vocabulary: int

    def run(self, ops: ModuleType, wires: Wires) -> None:
        wires.top = ops.top_k(wires.logits[-1], MAX_K)

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """A tree that merges sorted lists of k, V logits a cycle; a merge with the best so far.

        A compare keeps the better half of two lists, log2(k) levels sort it. Where that takes more
        than a cycle, as many lists of the best so far take turns and are merged at the end.
        Raises ChipError where the description says another k: the wire `top` has MAX_K entries.
        """
        width = spec.top_k.width.value
        if width != MAX_K:
            raise ChipError(f"top_k.width = {width:g}: the datapath's search hands out {MAX_K} ids")
        take = passes(spec, self.vocabulary)
        latency = self._merges(spec, min(self.vocabulary, spec.vector.lanes.value))
        if take > 1:
            turns = self._merges(spec, 2)
            latency += turns + self._merges(spec, min(turns, take))
        return Cost((Phase(take, latency, unit="top_k"),))

    @staticmethod
    def _merges(spec: ChipSpec, lists: float) -> int:
        """Cycles in which a tree makes one sorted list of so many."""
        levels = 1 + math.ceil(math.log2(spec.top_k.width.value))
        return math.ceil(math.ceil(math.log2(lists)) * levels / spec.vector.levels.value)

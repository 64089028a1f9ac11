"""Top-k: the chip hands the k best tokens to the sampler, k at most 8."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType

from emulator.blocks.wires import Wires
from emulator.silicon.cost import Cost, Phase
from emulator.silicon.spec import ChipSpec

MAX_K = 8  # HC1's API: topk from 1 to 8


@dataclass(frozen=True, slots=True)
class TopK:
    """Logits -> the ids of the 8 largest, of which a request uses the first k."""

    vocabulary: int
    name: str = "top_k"

    def run(self, ops: ModuleType, wires: Wires) -> None:
        wires.top = ops.top_k(wires.logits[-1], MAX_K)

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """A tree that merges sorted lists of k: a compare keeps the better half, log2(k) sort."""
        merges = math.ceil(math.log2(self.vocabulary))
        levels = merges * (1 + math.ceil(math.log2(spec.top_k.width.value)))
        return Cost((Phase(1, math.ceil(levels / spec.vector.levels.value), unit="top_k"),))

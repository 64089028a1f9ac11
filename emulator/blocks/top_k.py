"""Top-k: the chip hands the k best tokens to the sampler, k at most 8."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from emulator.blocks.wires import Wires
from emulator.silicon.cost import Cost
from emulator.silicon.spec import ChipSpec

MAX_K = 8  # HC1's API: topk from 1 to 8


@dataclass(frozen=True, slots=True)
class TopK:
    """Logits -> the ids of the 8 largest, of which a request uses the first k."""

    vocabulary: int
    name: str = "top_k"

    def run(self, ops: ModuleType, wires: Wires) -> None:
        wires.top = ops.top_k(wires.logits[-1], MAX_K)

    def cost(self, chip: ChipSpec, context: int) -> Cost:
        return Cost(int(chip.top_k.sort.value))

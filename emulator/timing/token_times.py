"""A running chip's cycles, token by token: what was worked out once is not worked out again."""

from __future__ import annotations

from collections import Counter, OrderedDict
from weakref import WeakKeyDictionary

from emulator.chip import Chip, Stage
from emulator.silicon.cost import Phase
from emulator.silicon.spec import ChipSpec
from emulator.timing.schedule import FAR, alike, prompt_cycles, token_cycles

MOST_KNOWN = 4096  # schedules that are kept, some hundred bytes each


class TokenTimes:
    """Cycles by block of tokens on these stages."""

    def __init__(self, stages: list[Stage], spec: ChipSpec) -> None:
        self.stages, self.spec = stages, spec
        self._alike = alike(stages, spec)
        blocks = {id(block): block for stage in self._alike for block in stage.blocks}
        # Those, attention for one, that later positions keep longer.
        self._by_context = [
            block
            for block in blocks.values()
            if block.cost(spec, 1).phases != block.cost(spec, FAR).phases
        ]
        self._known: OrderedDict[tuple[bool, tuple[tuple[Phase, ...], ...]], Counter[str]]
        self._known = OrderedDict()

    @classmethod
    def of(cls, chip: Chip, spec: ChipSpec) -> TokenTimes:
        """Those of a chip with the adapter in use; they live as long as the chip."""
        kept = _of_chip.setdefault(chip, [])
        for times in kept:
            if times.stages is chip.stages and times.spec is spec:
                return times
        kept.append(cls(chip.stages, spec))
        del kept[:-KEPT]
        return kept[-1]

    def token(self, context: int, with_head: bool = True) -> Counter[str]:
        """Of one token that attends to `context` positions, itself included; not to be changed."""
        phases = tuple(block.cost(self.spec, context).phases for block in self._by_context)
        key = with_head, phases
        if key not in self._known:
            self._known[key] = token_cycles(self._alike, self.spec, context, with_head)
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        return self._known[key]

    def prompt(self, start: int, count: int) -> Counter[str]:
        """Of `count` prompt tokens from position `start` on; the head runs once."""
        return prompt_cycles(self.token, start, count)


KEPT = 8  # adapters of a chip, and descriptions
_of_chip: WeakKeyDictionary[Chip, list[TokenTimes]] = WeakKeyDictionary()

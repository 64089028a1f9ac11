"""A token's cycles: the sum of what each block of the chip says. Prompt tokens run one by one."""

from __future__ import annotations

from collections import Counter

from emulator.chip import Stage
from emulator.silicon.spec import ChipSpec


def token_cycles(
    stages: list[Stage], chip: ChipSpec, context: int, with_head: bool
) -> Counter[str]:
    """Cycles by block name of one token that attends to `context` positions, itself included.

    The head is skipped for all prompt tokens but the last.
    """
    cycles: Counter[str] = Counter()
    for stage in stages:
        if stage.name == "head" and not with_head:
            continue
        for block in stage.blocks:
            cycles[block.name] += block.cost(chip, context).cycles
    return cycles

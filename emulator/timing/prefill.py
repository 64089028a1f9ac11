"""Time to the first token under the two hypotheses about prefill, and the pipelined aggregate.

serial      a prompt token starts when the one before it has left the last layer, as in decode
pipelined   every layer holds a token of its own; one enters as soon as the first layer is free
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from emulator.chip import Stage
from emulator.silicon.spec import ChipSpec
from emulator.timing.schedule import cycles_over, stage_cycles

HYPOTHESES = ("serial", "pipelined")


def prefill_cycles(stages: list[Stage], chip: ChipSpec, tokens: int) -> dict[str, int]:
    """Cycles from the first of `tokens` prompt tokens to the first reply token, by hypothesis."""
    serial = pipelined = 0
    free = dict.fromkeys((stage.name for stage in stages), 0)  # when its last token left a stage
    left = tokens
    for alike, cycles in cycles_over(stages, chip, 1, tokens):
        for _ in range(alike):
            left -= 1
            pipelined = 0
            for name, own in cycles.items():
                if name != "head" or left == 0:
                    serial += own
                    pipelined = free[name] = max(pipelined, free[name]) + own
    return {"serial": serial, "pipelined": pipelined}


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Decode of many users, one in each stage: the slowest stage sets the pace."""

    tokens_per_second: float  # of all users together
    users: int  # in flight
    cycles_per_token: int


def pipelined_aggregate(stages: list[Stage], chip: ChipSpec, context: int) -> Aggregate:
    """What the chip could do if every layer had fabric, vector unit and KV SRAM to itself.

    Each user's own rate stays that of one user; the SRAM has to hold `context` positions of each.
    """
    cycles = stage_cycles(stages, chip, context)
    pace = max(cycles.values())
    return Aggregate(chip.clock_hz / pace, math.ceil(sum(cycles.values()) / pace), pace)


def decode_seconds(stages: list[Stage], chip: ChipSpec, prompt: int, output: int) -> float:
    """Mean time of the chip's own decode step in a reply of `output` tokens, at least 2.

    The first token belongs to the prefill; the step that makes token n+1 attends to prompt + n.
    """
    runs = cycles_over(stages, chip, prompt + 1, prompt + output - 1)
    cycles = sum(alike * sum(step.values()) for alike, step in runs)
    return cycles / (output - 1) / chip.clock_hz

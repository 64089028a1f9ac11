"""Time to the first token under the two hypotheses about prefill, and the pipelined aggregate.

serial      a prompt token starts when the one before it has left the last layer, as in decode
pipelined   every layer holds a token of its own; one enters as soon as the first layer is free;
            with adders that all layers share it is no different from serial
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from emulator.chip import Stage
from emulator.silicon.spec import ChipSpec
from emulator.timing.schedule import prompt_cycles, runs_alike, stage_cycles, token_cycles

HYPOTHESES = ("serial", "pipelined")


def prefill_cycles(stages: list[Stage], spec: ChipSpec, tokens: int) -> dict[str, int]:
    """Cycles from the first of `tokens` prompt tokens to the first reply token, by hypothesis."""
    free = dict.fromkeys((stage.name for stage in stages), 0)  # when its last token left a stage
    end, left = 0, tokens
    for alike, cycles in runs_alike(lambda c: stage_cycles(stages, spec, c), 1, tokens):
        for _ in range(alike):
            end, left = 0, left - 1
            for name, own in cycles.items():
                if name != "head" or left == 0:
                    end = free[name] = max(end, free[name]) + own
    serial = sum(prompt_cycles(partial(token_cycles, stages, spec), 0, tokens).values())
    return {"serial": serial, "pipelined": end if spec.fabric.owned.value else serial}


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Decode of many users, one in each stage: the slowest stage sets the pace."""

    tokens_per_second: float  # of all users together
    users: int  # in flight
    cycles_per_token: int


def pipelined_aggregate(stages: list[Stage], spec: ChipSpec, context: int) -> Aggregate:
    """What the chip could do if every layer had fabric, vector unit and KV SRAM to itself.

    Each user's own rate stays that of one user; the SRAM has to hold `context` positions of each.
    """
    cycles = stage_cycles(stages, spec, context)
    pace = max(cycles.values())
    return Aggregate(spec.clock_hz / pace, math.ceil(sum(cycles.values()) / pace), pace)


def decode_seconds(stages: list[Stage], spec: ChipSpec, prompt: int, output: int) -> float:
    """Mean time of the chip's own decode step in a reply of `output` tokens, at least 2.

    The first token belongs to the prefill; the step that makes token n+1 attends to prompt + n.
    """

    def cycles_at(context: int) -> int:
        return sum(stage_cycles(stages, spec, context).values())

    runs = runs_alike(cycles_at, prompt + 1, prompt + output - 1)
    cycles = sum(alike * step for alike, step in runs)
    return cycles / (output - 1) / spec.clock_hz

"""A token's schedule: its wave through the blocks of the chip, and what each adds to the time.

A block's cycles are those by which it moves the end of the wave, so they add up to the token's
time, and what overlaps its consumer costs nothing. Prompt tokens run one by one, as reply tokens
do, and skip the head, all but the last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from emulator.blocks.block import Block
from emulator.blocks.sequencer import SEQUENCER
from emulator.chip import Stage
from emulator.silicon.cost import Cost, Wave
from emulator.silicon.spec import ChipSpec

T = TypeVar("T")
FAR = 1 << 24  # positions, beyond every window


class Step(NamedTuple):
    """One block's part of one token's schedule."""

    block: Block
    cost: Cost
    arrives: Wave  # its input, in cycles from the first value that enters its stage
    leaves: Wave  # its output

    @property
    def cycles(self) -> int:
        return self.leaves.last - self.arrives.last


class StageSteps(NamedTuple):
    """A stage's part of one token's schedule."""

    stage: Stage
    begin: int  # cycle of the token at which the stage's first value enters
    steps: list[Step]

    @property
    def cycles(self) -> int:
        return self.steps[-1].leaves.last - self.steps[0].arrives.last


def timed_blocks(stage: Stage) -> list[Block]:
    """A stage's blocks, and behind those of a layer the sequencer."""
    return stage.blocks if stage.layer is None else [*stage.blocks, SEQUENCER]


def token_schedule(
    stages: list[Stage], spec: ChipSpec, context: int, with_head: bool = True
) -> Iterator[StageSteps]:
    """The schedule of one token that attends to `context` positions, itself included.

    Stages that share their blocks and meet a wave of the same length are computed once.
    """
    wave = Wave(0, 0)
    known: dict[tuple[int, int], list[Step]] = {}
    for stage in stages:
        if stage.name == "head" and not with_head:
            continue
        arrives = Wave(0, wave.last - wave.first)
        key = id(stage.blocks), arrives.last
        if key not in known:
            known[key] = list(_steps(stage, spec, context, arrives))
        yield StageSteps(stage, wave.first, known[key])
        leaves = known[key][-1].leaves
        wave = Wave(wave.first + leaves.first, wave.first + leaves.last)


def _steps(stage: Stage, spec: ChipSpec, context: int, wave: Wave) -> Iterator[Step]:
    for block in timed_blocks(stage):
        cost = block.cost(spec, context)
        leaves = cost.after(wave)
        yield Step(block, cost, wave, leaves)
        wave = leaves


def token_cycles(
    stages: list[Stage], spec: ChipSpec, context: int, with_head: bool
) -> Counter[str]:
    """Cycles by block name of one token that attends to `context` positions, itself included."""
    cycles: Counter[str] = Counter()
    for part in token_schedule(stages, spec, context, with_head):
        for step in part.steps:
            cycles[step.block.name] += step.cycles
    return cycles


def alike(stages: list[Stage], spec: ChipSpec) -> list[Stage]:
    """The stages with the first one's blocks in all that are like it: the same schedule, sooner.

    What a block costs depends on its sizes and, up to its window, on the context: stages whose
    blocks cost the same at both ends cost the same between them.
    """
    first: dict[object, Stage] = {}
    found = []
    for stage in stages:
        costs = [(b.name, b.cost(spec, 1), b.cost(spec, FAR)) for b in stage.blocks]
        like = first.setdefault((stage.layer is None, *costs), stage)
        found.append(Stage(stage.name, like.blocks, stage.layer))
    return found


def stage_cycles(
    stages: list[Stage], spec: ChipSpec, context: int, with_head: bool = True
) -> dict[str, int]:
    """Cycles by stage name, in the order in which the token meets them."""
    schedule = token_schedule(stages, spec, context, with_head)
    return {part.stage.name: part.cycles for part in schedule}


def runs_alike(cycles: Callable[[int], T], first: int, last: int) -> Iterator[tuple[int, T]]:
    """`cycles` of every context from `first` to `last`, as (how many alike, cycles).

    No block gets faster as the context grows, so if both ends are alike, all between them are.
    """
    low, high = cycles(first), cycles(last)
    if low == high:
        yield last - first + 1, low
    elif first + 1 == last:
        yield from ((1, low), (1, high))
    else:
        middle = (first + last) // 2
        yield from runs_alike(cycles, first, middle)
        yield from runs_alike(cycles, middle + 1, last)


def prompt_cycles(
    cycles_of: Callable[[int, bool], Counter[str]], start: int, count: int
) -> Counter[str]:
    """Cycles by block of `count` prompt tokens from position `start` on; the head runs once.

    `cycles_of` a token: of its context, and whether it has a head.
    """
    last = start + count
    cycles = cycles_of(last, True).copy()
    if count > 1:
        runs = runs_alike(lambda context: cycles_of(context, False), start + 1, last - 1)
        for alike, token in runs:
            for name, own in token.items():
                cycles[name] += alike * own
    return cycles


def token_work(stages: list[Stage], spec: ChipSpec, context: int, with_head: bool = True) -> Cost:
    """Multiplications and bits of one token, all blocks together; no phases."""
    schedule = token_schedule(stages, spec, context, with_head)
    costs = [step.cost for part in schedule for step in part.steps]
    return Cost(
        macs=sum(cost.macs for cost in costs),
        rom_bits=sum(cost.rom_bits for cost in costs),
        sram_bits=sum(cost.sram_bits for cost in costs),
        row_cycles=sum(cost.row_cycles for cost in costs),
        wire_bits=sum(cost.wire_bits for cost in costs),
    )

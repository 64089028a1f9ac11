"""The schedule by events: units that are busy, tokens that wait for them, one or many in flight.

An independent check of `schedule`, and the answer where it has none: several users. A unit takes a
vector in cycle by cycle, as fast as it arrives and as the unit can; a token that finds a unit busy
waits in its input buffer, first come first served. One token alone meets no busy unit, so it must
take the cycles of `schedule` exactly.

fabric          one set of adders for every matrix if the chip owns them, else one for all
keys, values    one KV SRAM, read by one token at a time
vector          every section of the one vector unit's pipelines (a phase of a block) on its own
others          embedding, top-k, and links between chips: one of each
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import NamedTuple

from emulator.chip import Stage
from emulator.silicon.cost import Phase
from emulator.silicon.spec import ChipSpec
from emulator.timing.schedule import timed_blocks


class Section(NamedTuple):
    """One phase of a token's path and the hardware that it needs; "" for none."""

    phase: Phase
    hardware: str


@dataclass(frozen=True, slots=True)
class Job:
    """One token: its path, and the job that must have ended before it begins."""

    path: list[Section]
    after: int | None = None


@dataclass(slots=True)
class Run:
    """What happened; cycles."""

    begins: list[int]
    ends: list[int]  # the last value of each job is out
    busy: Counter[str] = field(default_factory=Counter)  # by hardware

    @property
    def length(self) -> int:
        return max(self.ends)


def path_of(
    stages: list[Stage], spec: ChipSpec, context: int, with_head: bool = True
) -> list[Section]:
    """A token's phases in order, each with its hardware."""
    sections = []
    for stage in stages:
        if stage.name == "head" and not with_head:
            continue
        for place, block in enumerate(timed_blocks(stage)):
            for number, phase in enumerate(block.cost(spec, context).phases):
                hardware = phase.unit
                if phase.unit == "fabric" and spec.fabric.owned.value:
                    hardware = f"{stage.name} {block.name}"
                elif phase.unit == "vector":
                    hardware = f"vector {place} {block.name} {number}"
                sections.append(Section(phase, hardware))
    return sections


def simulate(jobs: list[Job]) -> Run:
    """Let the jobs loose; a job may only come after one before it in the list."""
    followers: dict[int, list[int]] = {}
    run = Run([0] * len(jobs), [0] * len(jobs))
    order, waiting = count(), []
    for index, job in enumerate(jobs):
        if job.after is None:
            waiting.append((0, next(order), index, 0, 0))
        else:
            followers.setdefault(job.after, []).append(index)
    heapq.heapify(waiting)
    free: dict[str, int] = {}  # the first cycle in which hardware takes another vector
    while waiting:
        first, turn, index, place, last = heapq.heappop(waiting)
        phase, hardware = jobs[index].path[place]
        begin = max(first, free.get(hardware, 0) if hardware else 0)
        if begin > first:  # busy: what has arrived meanwhile waits in the buffer
            heapq.heappush(waiting, (begin, turn, index, place, max(last, begin)))
            continue
        if place == 0:
            run.begins[index] = begin
        part, whole = take_in(phase, last - first + 1)
        if hardware:
            free[hardware] = first + whole
            run.busy[hardware] += phase.take
        leaves = first + part - 1 + phase.latency, first + whole - 1 + phase.latency
        if place + 1 < len(jobs[index].path):
            heapq.heappush(waiting, (leaves[0], next(order), index, place + 1, leaves[1]))
        else:
            run.ends[index] = leaves[1]
            for follower in followers.get(index, ()):
                heapq.heappush(waiting, (leaves[1], next(order), follower, 0, leaves[1]))
    return run


@lru_cache(maxsize=1 << 14)
def take_in(phase: Phase, arriving: int) -> tuple[int, int]:
    """Cycles until the first part, and all, of a vector that arrives in `arriving` cycles is in.

    Counted cycle by cycle in grains, of which the vector has take * arriving: `take` arrive in a
    cycle, and the unit can take `arriving`.
    """
    grains = phase.take * arriving
    arrived = taken = cycle = part = 0
    while taken < grains:
        cycle += 1
        arrived = min(grains, arrived + phase.take)
        taken = min(arrived, taken + arriving)
        if not part and taken * phase.parts >= grains:
            part = cycle
    return part, cycle


def decode_jobs(paths: list[list[Section]], tokens: int) -> list[Job]:
    """Users side by side, `tokens` each; a user's token begins when his last one has ended."""
    users = len(paths)
    return [
        Job(paths[index % users], None if index < users else index - users)
        for index in range(users * tokens)
    ]


def pace(paths: list[list[Section]], rounds: int = 3) -> float:
    """Cycles a token, of all users together: between a user's first token and its last, by mean."""
    run = simulate(decode_jobs(paths, rounds))
    users = len(paths)
    first, last = run.ends[:users], run.ends[-users:]
    periods = (b - a for a, b in zip(first, last, strict=True))
    return sum(periods) / users / (users * (rounds - 1))

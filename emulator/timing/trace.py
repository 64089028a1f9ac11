"""A run as a timeline in the Chrome trace format, which Perfetto's viewer opens.

Every block is a track and every use of it a slice from its first input to its last output, with
cycles, multiplications and bits. A token is a slice of its own, and a flow leads from it through
the stages that made it to the next token. Times are microseconds of chip time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from emulator.chip import Stage
from emulator.silicon.spec import ChipSpec
from emulator.timing.schedule import StageSteps, timed_blocks, token_schedule

PROCESS = 1
TOKENS = 1  # the track of the tokens; those of the blocks follow


@dataclass(frozen=True, slots=True)
class TracedToken:
    """One pass through the chip."""

    text: str  # of the token that goes in
    context: int  # positions it attends to, itself included
    with_head: bool  # whether a reply token comes out
    result: str  # its text, "" for none


def chrome_trace(stages: list[Stage], spec: ChipSpec, tokens: list[TracedToken]) -> dict[str, Any]:
    """The tokens one after another as a JSON object. Its slices add up to the run's cycles."""
    names = dict.fromkeys(block.name for stage in stages for block in timed_blocks(stage))
    track = {name: TOKENS + 1 + i for i, name in enumerate(names)}
    events = [_named("process_name", 0, f"{spec.name}: cycle-approximate")]
    events += [_named("thread_name", TOKENS, "tokens")]
    events += [_named("thread_name", tid, name) for name, tid in track.items()]
    begin = 0
    for index, token in enumerate(tokens):
        schedule = list(token_schedule(stages, spec, token.context, token.with_head))
        cycles = sum(part.cycles for part in schedule)
        args = {"cycles": cycles, "context": token.context, "makes": token.result}
        name = token.text or f"token {index}"
        events.append(_slice(name, TOKENS, begin, begin + cycles, spec, args))
        if index > 0:  # after the slice in which it ends
            events.append(_flow("f", index - 1, TOKENS, begin, spec))
        if index + 1 < len(tokens):
            events.append(_flow("s", index, TOKENS, begin, spec))
        events += _blocks(schedule, track, index, begin, spec, index + 1 < len(tokens))
        begin += cycles
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": {"cycles": begin}}


def _blocks(
    schedule: list[StageSteps],
    track: dict[str, int],
    index: int,
    begin: int,
    spec: ChipSpec,
    flows: bool,
) -> Iterator[dict[str, Any]]:
    """Slices of one token, and its flow at the first block of every stage."""
    for part in schedule:
        at = begin + part.begin
        busy = [s for s in part.steps if s.cost.phases]
        for step in busy:
            start, end = at + step.arrives.first, at + step.leaves.last
            cost, tid = step.cost, track[step.block.name]
            args = {
                "stage": part.stage.name,
                "token": index,
                "cycles on the path": step.cycles,
                "MACs": cost.macs,
                "ROM bits": cost.rom_bits,
                "SRAM bits": cost.sram_bits,
            }
            yield _slice(step.block.name, tid, start, end, spec, args)
            if flows and step is busy[0]:
                yield _flow("t", index, tid, start, spec)


def _ns(cycle: int, spec: ChipSpec) -> int:
    """Whole, as the viewer keeps times, so that what touches does not overlap."""
    return round(cycle / spec.clock_hz * 1e9)


def _slice(
    name: str, tid: int, begin: int, end: int, spec: ChipSpec, args: dict[str, Any]
) -> dict[str, Any]:
    start = _ns(begin, spec)
    times = {"ts": start / 1000, "dur": (_ns(end, spec) - start) / 1000}
    return {
        "name": name,
        "cat": "chip",
        "ph": "X",
        "pid": PROCESS,
        "tid": tid,
        **times,
        "args": args,
    }


def _flow(phase: str, index: int, tid: int, cycle: int, spec: ChipSpec) -> dict[str, Any]:
    """Start, step or finish of a token's flow, bound to the slice that encloses it."""
    flow = {"name": "token", "cat": "token", "ph": phase, "id": index, "bp": "e"}
    return {**flow, "pid": PROCESS, "tid": tid, "ts": _ns(cycle, spec) / 1000}


def _named(what: str, tid: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": PROCESS, "tid": tid, "args": {"name": name}}

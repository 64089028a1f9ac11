"""GET /hardwired/die?context=N: the floor plan, and what one token does on it, cycle by cycle."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emulator.chip import Stage
from emulator.serve.body import RequestError
from emulator.serve.service import service_of
from emulator.silicon.spec import ChipSpec
from emulator.timing.budget import shape_of
from emulator.timing.energy import die_area, token_energy
from emulator.timing.floor_plan import floor_plan
from emulator.timing.schedule import Step, token_schedule, token_work


async def die(request: Request) -> Response:
    """GET /hardwired/die"""
    service, context = service_of(request), read_context(request)
    report = await asyncio.to_thread(die_report, service.engine.chip.stages, service.spec, context)
    return JSONResponse(report)


def read_context(request: Request) -> int:
    """The query's `context`, 1 if absent. Raises RequestError outside the chip's positions."""
    most, text = service_of(request).context, request.query_params.get("context", "1")
    digits = text.isascii() and text.isdigit() and len(text) < 10
    if not digits or not 1 <= int(text) <= most:
        raise RequestError(f"context must be from 1 to {most}", param="context")
    return int(text)


def die_report(stages: list[Stage], spec: ChipSpec, context: int) -> dict[str, Any]:
    """Places in mm2, energy in J, and a token that attends to `context` positions.

    A use of a block is [block, first cycle, last cycle]: from its first value in to its last value
    out, counted from its stage's `begin`. Stages whose uses are alike share an entry of `uses`.
    """
    shape, work = shape_of(stages), token_work(stages, spec, context)
    schedule = list(token_schedule(stages, spec, context))
    cycles = sum(part.cycles for part in schedule)
    seconds = cycles / spec.clock_hz
    uses: list[list[list[Any]]] = []
    passes: list[dict[str, Any]] = []
    for part in schedule:
        own = [_use(step) for step in part.steps if step.cost.phases]
        if own not in uses:
            uses.append(own)
        head = {"stage": part.stage.name, "layer": part.stage.layer, "begin": part.begin}
        passes.append(head | {"uses": uses.index(own)})
    places = [
        {"name": p.name, "layer": p.layer, "blocks": p.blocks, "area_mm2": p.area_mm2}
        for p in floor_plan(stages, spec)
    ]
    return {
        "estimate": True,
        "context": context,
        "clock_hz": spec.clock_hz,
        "cycles": cycles,
        "seconds": seconds,
        "energy": token_energy(spec, shape, work, seconds).to_json("J"),
        "area": die_area(spec, shape).to_json("mm2"),
        "places": places,
        "stages": passes,
        "uses": uses,
    }


def _use(step: Step) -> list[Any]:
    return [step.block.name, step.arrives.first, step.leaves.last]

"""What the server tells of itself: its model and chip, a token's cycles, numbers for Prometheus."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emulator.serve import demo
from emulator.serve.die import read_context
from emulator.serve.metrics import CONTENT_TYPE
from emulator.serve.service import service_of
from emulator.timing.schedule import token_cycles


async def metrics(request: Request) -> Response:
    """GET /metrics"""
    return Response(service_of(request).metrics.text(), media_type=CONTENT_TYPE)


async def about(request: Request) -> Response:
    """GET /hardwired/about: what the page shows about the chip."""
    service = service_of(request)
    return JSONResponse(
        {
            "model": service.name,
            "parameters": service.image.config.parameters,
            "bits_per_weight": service.image.bits_per_weight,
            "context": service.context,
            "max_tokens": service.most_tokens,
            "chip": service.spec.title,
            "clock_hz": service.spec.clock_hz,
            "attachment_bytes": demo.ATTACHMENT_BYTES,
        }
    )


async def cycles(request: Request) -> Response:
    """GET /hardwired/cycles?context=N: cycles by block of a token that attends to N positions."""
    service, context = service_of(request), read_context(request)
    stages, spec = service.engine.chip.stages, service.spec
    by_block = await asyncio.to_thread(token_cycles, stages, spec, context, True)
    report = {"context": context, "clock_hz": spec.clock_hz, "cycles_by_block": dict(by_block)}
    return JSONResponse(report)

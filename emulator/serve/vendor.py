"""The vendor's own interface: GET /health and POST /generate; /models is the same as OpenAI's.

The vendor's description gives the fields of requests but not the shape of a reply to /generate;
ours is a chat completion.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emulator.chat.tools import CallForm
from emulator.serve.body import RequestError, read, refuse
from emulator.serve.openai_api import answer
from emulator.serve.options import Options, vendor_options
from emulator.serve.prompts import read_messages, text_tokens
from emulator.serve.service import Service, service_of
from emulator.serve.shapes.vendor import GenerateRequest
from emulator.serve.tools import calling, choice_of, offered

FRESH_SECONDS = 30.0  # a pass younger than this shows that the chip works
PROBE_SECONDS = 20.0  # that an idle chip may take to make one


async def health(request: Request) -> Response:
    """GET /health; 503 if the chip could not make a token."""
    service = service_of(request)
    healthy = await works(service)
    report = {
        "status": "ok" if healthy else "failing",
        "queue_size": queue_size(service),
        "current_adapter": service.engine.chip.adapter or "none",
        "last_token_seconds_ago": round(_age(service), 3),
    }
    return JSONResponse(report, 200 if healthy else 503)


async def works(service: Service) -> bool:
    """Whether a pass ended recently; an idle chip makes a token now, keeping its KV SRAM."""
    engine = service.engine
    if _age(service) < FRESH_SECONDS:
        return True
    if not engine.alive:
        return False
    if engine.computing:  # a pass over much of a prompt may take its time
        return _age(service) < FRESH_SECONDS + PROBE_SECONDS
    if engine.busy or engine.waiting:  # the cards hold back what is computed
        return True
    probe = service.probe()
    try:
        await asyncio.wait_for(probe.whole(), PROBE_SECONDS)
    except (asyncio.TimeoutError, RequestError):
        return False
    finally:
        service.cancel([probe])
    return True


def queue_size(service: Service) -> int:
    """Number of answers running and waiting."""
    return service.engine.waiting + service.engine.busy


def _age(service: Service) -> float:
    return time.monotonic() - service.engine.last_sign_at


async def generate(request: Request) -> Response:
    """POST /generate: messages, or a text to complete."""
    service, body = service_of(request), await read(request, GenerateRequest)
    adapter = "" if service.faithful else service.check_model(body.model)
    options, form, prompt = await service.prepared(request, body, _generation, service, body)
    options = replace(options, adapter=adapter)
    service.check_prompt(prompt, "prompt")
    prefixes = [service.chat.decode(prompt)] if body.echo else []
    chat = not isinstance(body.prompt, str)
    return await answer(request, body, [prompt], options, chat, prefixes, form)


def _generation(
    service: Service, body: GenerateRequest
) -> tuple[Options, CallForm | None, list[int]]:
    options = vendor_options(body, service.most_tokens, service.grammars)
    tools, choice = offered(body.tools), choice_of(body.tool_choice)
    if isinstance(body.prompt, str):
        if tools:
            refuse("tools", "used with messages as prompt", body.prompt)
        service.check_length([len(body.prompt)], "prompt")
        return options, None, text_tokens(service.chat, body.prompt)
    messages = read_messages(body.prompt, "prompt")
    called = calling(tools, choice, service.form, service.grammars, options.grammar)
    prompt = service.chat_prompt(messages, called.tools)
    return replace(options, grammar=called.grammar), called.form, prompt

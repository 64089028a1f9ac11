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

from emulator.chat.messages import chat_tokens
from emulator.serve.body import BODY_BYTES, RequestError, read_body
from emulator.serve.openai_api import MODEL_CHARACTERS, answer
from emulator.serve.options import Options, vendor_options
from emulator.serve.prompts import read_messages, text_tokens
from emulator.serve.service import Service, service_of

FRESH_SECONDS = 30.0  # a token younger than this shows that the chip works
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
    """Whether a token was made recently; an idle chip makes one now, keeping its KV SRAM."""
    engine = service.engine
    if _age(service) < FRESH_SECONDS:
        return True
    if not engine.alive:
        return False
    if engine.busy or engine.waiting:  # a long prompt may take its time
        return _age(service) < FRESH_SECONDS + PROBE_SECONDS
    options = Options(max_tokens=1, adapter=engine.chip.adapter)
    (probe,) = service.ask([engine.probe_prompt()], options)
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
    service, body = service_of(request), await read_body(request)
    name = body.text("model", MODEL_CHARACTERS)
    adapter = "" if service.faithful else service.check_model(name)
    options = await asyncio.to_thread(vendor_options, body, service.most_tokens, service.grammars)
    options = replace(options, adapter=adapter)
    chat = not isinstance(body.values.get("prompt"), str)
    if chat:
        messages = read_messages(body, "prompt")
        prompt = await asyncio.to_thread(chat_tokens, service.chat, messages)
    else:
        text = body.text("prompt", BODY_BYTES)
        prompt = await asyncio.to_thread(text_tokens, service.chat, text)
    service.check_prompt(prompt, "prompt")
    prefix = service.chat.decode(prompt) if body.truth("echo") else ""
    return await answer(request, body, [prompt], options, chat, prefix)

"""The public demo's three routes, with its stats trailer filled in by the cycle model.

By default every field counts and every mistake gets an error. `--faithful` answers as the demo was
observed to: in one burst, ignoring most fields, and empty when the context overflows.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emulator.chat.answer import CONTEXT, END, MAX_TOKENS, STOP
from emulator.chat.messages import Message
from emulator.errors import EmulatorError
from emulator.serve.body import NotJsonError, RequestError, checked, read_body
from emulator.serve.openai_api import note_jobs
from emulator.serve.options import Options, limit_of, seed_of, stops_of, temperature_of
from emulator.serve.preparing import client_of
from emulator.serve.prompts import read_messages
from emulator.serve.service import AnswerStream, Choice, Service, service_of, whole
from emulator.serve.shapes.atoms import VENDOR_MODEL
from emulator.serve.shapes.vendor import Attachment, DemoRequest, FaithfulRequest
from emulator.serve.vendor import queue_size, works

ATTACHMENT_BYTES = 51_200
MEDIA = "text/event-stream"  # though the text is not framed as events
CREATED = 1_690_000_000  # as the demo gives it for its one model


async def health(request: Request) -> Response:
    """GET /api/health"""
    service = service_of(request)
    state = "healthy" if await works(service) else "failing"
    adapter = service.engine.chip.adapter or "none"
    details = {"status": state, "queue_size": queue_size(service), "current_adapter": adapter}
    report = {
        "status": "ok",
        "nextjs": "ok",
        "backend": "connected",
        "backendStatus": 200,
        "backendDetails": details,
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return JSONResponse(report)


async def models(request: Request) -> Response:
    """GET /api/models"""
    service = service_of(request)
    name = VENDOR_MODEL if service.faithful else service.name
    owner = "Taalas Inc." if service.faithful else "hardwired-llama"
    entry = {"id": name, "object": "model", "created": CREATED, "owned_by": owner}
    return JSONResponse({"object": "list", "data": [entry]})


async def chat(request: Request) -> Response:
    """POST /api/chat; `answer` once the body is read."""
    try:
        values = await read_body(request)
    except RequestError as error:
        return _faithful_error(error) if service_of(request).faithful else _error(error)
    return await answer(request, values)


async def answer(request: Request, values: Mapping[str, Any]) -> Response:
    """The demo's reply to the fields of a body."""
    service, arrived = service_of(request), time.monotonic()
    try:
        prompt, options = await service.prepared(request, None, _read, values, service)
        service.check_prompt(prompt, "messages")
    except RequestError as error:
        return _faithful_error(error) if service.faithful else _error(error)
    choices = service.ask([prompt], options, client=client_of(request))
    note_jobs(request, choices)
    parts = _text(service, choices[0], options, arrived)
    if service.faithful:
        await whole(request, choices)
        if choices[0].job.answer.reason == CONTEXT:
            return Response(b"", media_type=MEDIA)
        said = choices[0].job.stream.text + stats(service, choices[0], options, arrived)
        headers = {"cache-control": "no-cache, no-transform"}
        return Response(said, media_type=MEDIA, headers=headers)
    return AnswerStream(service, choices, parts, MEDIA)


def _read(values: Mapping[str, Any], service: Service) -> tuple[list[int], Options]:
    """Read prompt and options of a request. Raises RequestError."""
    wishes = values.get("chatOptions")
    if wishes is None or (isinstance(wishes, dict) and not wishes.get("selectedModel")):
        raise RequestError("Selected model is required", param="chatOptions.selectedModel")
    body: DemoRequest | FaithfulRequest
    adapter = ""
    if service.faithful:
        body = checked(values, FaithfulRequest)
    else:
        body = checked(values, DemoRequest)
        adapter = service.check_model(body.chatOptions.selectedModel)
    messages = read_messages(body.messages, "messages")
    if attachment := _attached(body.attachment):
        messages[-1] = Message("user", f"{attachment}\n\n{messages[-1].text}")
    if body.chatOptions.systemPrompt:
        messages.insert(0, Message("system", body.chatOptions.systemPrompt))
    return service.chat_prompt(messages), replace(_options(body, service), adapter=adapter)


def _options(body: DemoRequest | FaithfulRequest, service: Service) -> Options:
    """A faithful server reads only topK, as the demo does; ours also reads the usual fields."""
    if isinstance(body, FaithfulRequest):
        width = body.chatOptions.topK or 1
        return Options(service.context, top_k=width, seed=time.time_ns())
    wishes = body.chatOptions
    return Options(
        limit_of(wishes.max_tokens, service.most_tokens),
        top_k=wishes.topK or 1,
        temperature=temperature_of(wishes.temperature, "chatOptions.temperature"),
        seed=seed_of(wishes.seed, "chatOptions.seed"),
        stop=stops_of(wishes.stop),
    )


def _attached(attachment: Attachment | None) -> str:
    if attachment is None or not attachment.content:
        return ""
    size = len(attachment.content.encode("utf-8", "replace"))
    if size > ATTACHMENT_BYTES:
        message = f"an attachment has at most {ATTACHMENT_BYTES:,} bytes, not {size:,}"
        raise RequestError(message, param="attachment")
    return f"{attachment.name or ''}:\n{attachment.content}"


def _error(error: EmulatorError) -> Response:
    status = error.status if isinstance(error, RequestError) else 400
    headers = error.headers if isinstance(error, RequestError) else None
    return JSONResponse({"success": False, "error": str(error)}, status, headers)


def _faithful_error(error: RequestError) -> Response:
    """Empty success if the context overflows; 500 for a bad body, bad messages or a bad topK."""
    if error.code == "context_length_exceeded":
        return Response(b"", media_type=MEDIA)
    blamed = (error.param or "").startswith(("messages", "chatOptions.topK"))
    error.status = 500 if isinstance(error, NotJsonError) or blamed else error.status
    return _error(error)


async def _text(
    service: Service, choice: Choice, options: Options, arrived: float
) -> AsyncIterator[str]:
    """Yield the answer as it comes, then the trailer."""
    try:
        async for piece in choice.pieces():
            if piece is not None and piece.text:
                yield piece.text
    except EmulatorError as error:
        yield f"<|stats|>{json.dumps({'done': False, 'reason': str(error)})}<|/stats|>"
    else:
        yield stats(service, choice, options, arrived)


def stats(service: Service, choice: Choice, options: Options, arrived: float) -> str:
    """The trailer: times from the cycle model, but total_duration and roundtrip_time measured.

    `decode_rate` is N tokens over the time of N - 1 steps, as in the demo. A faithful server adds
    the newest deployment's cost per step.
    """
    answer, elapsed = choice.job.answer, time.monotonic() - arrived
    tokens, steps = len(answer.token_ids), max(len(answer.token_ids) - 1, 0)
    added = 0.0  # seconds per step
    if service.faithful:
        added = 1e-6 * list(service.spec.deployment.values())[-1].decode_step.value
    ttft = answer.prefill_cycles / answer.clock_hz
    total = answer.chip_seconds + steps * added
    values = {
        "created_at": time.time(),
        "done": True,
        "done_reason": "stop",
        "total_duration": elapsed,
        "logprobs": None,
        "topk": options.top_k,
        "ttft": ttft,
        "reason": _reason(service, choice),
        "status": 0,
        "prefill_tokens": answer.prompt_tokens,
        "prefill_rate": answer.prompt_tokens / ttft,
        "decode_tokens": tokens,
        "decode_rate": tokens / (total - ttft) if steps else 0.0,
        "total_tokens": answer.prompt_tokens + tokens,
        "total_time": total,
        "roundtrip_time": round(elapsed * 1000),
    }
    return f"<|stats|>{json.dumps(values)}<|/stats|>"


def _reason(service: Service, choice: Choice) -> str:
    answer = choice.job.answer
    if answer.reason == END:
        token = answer.token_ids[-1]
        name = service.chat.tokenizer.id_to_token(token)
        return f"termination token {token}/{name} detected"
    others: dict[str, Any] = {
        CONTEXT: f"max context limit {service.context} reached",
        MAX_TOKENS: "max output tokens reached",
        STOP: "stop text detected",
    }
    return str(others.get(answer.reason, "interrupted"))

"""Anthropic's /v1/messages: whole, streamed as named events, and counted."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emulator.chat.messages import TOOL, Message
from emulator.chat.tools import Call, CallForm, Tool
from emulator.errors import EmulatorError
from emulator.serve.body import RequestError, read, refuse
from emulator.serve.openai_api import note_jobs
from emulator.serve.options import Options, limit_of, pick_width, seed_of, stops_of, temperature_of
from emulator.serve.preparing import client_of
from emulator.serve.replies import Reply, built
from emulator.serve.service import AnswerStream, Choice, Service, service_of, whole
from emulator.serve.shapes import anthropic as shape
from emulator.serve.tools import AUTO, NONE, REQUIRED, calling
from emulator.serve.turn import call_in, parts

CHOICES = {"auto": AUTO, "any": REQUIRED, "none": NONE}
KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


async def messages(request: Request) -> Response:
    """POST /v1/messages"""
    service, body = service_of(request), await read(request, shape.MessagesRequest)
    adapter = service.check_model(body.model)
    options, form, prompt = await service.prepared(request, body, _asked, service, body)
    options = replace(options, adapter=adapter)
    service.check_prompt(prompt, "messages")
    choices = service.ask([prompt], options, client=client_of(request))
    note_jobs(request, choices)
    choice, ident = choices[0], f"msg_{secrets.token_hex(12)}"
    if body.stream:
        events = _events(service, choice, form, ident)
        return AnswerStream(service, choices, events, "text/event-stream")
    (said,) = await whole(request, choices)
    call = call_in(said, form)
    reply = _frame(service, choice, ident)
    reply.content = [_block(call) if call else shape.MadeBlock(type="text", text=said)]
    reply.stop_reason = "tool_use" if call else _reason(choice)
    reply.stop_sequence = choice.job.stream.stopped_by
    reply.usage.output_tokens = len(choice.job.answer.token_ids)
    reply.usage.chip = Reply(service, options, choices, chat=True).usage().chip
    return JSONResponse(built(reply))


async def count_tokens(request: Request) -> Response:
    """POST /v1/messages/count_tokens"""
    service, body = service_of(request), await read(request, shape.CountRequest)
    service.check_model(body.model)
    prompt = await service.prepared(request, body, _counted, service, body)
    return JSONResponse(built(shape.TokenCount(input_tokens=len(prompt))))


def _counted(service: Service, body: shape.CountRequest) -> list[int]:
    return service.chat_prompt(_messages(body), _tools(body), any_length=True)


def error_object(error: EmulatorError) -> dict[str, Any]:
    """Anthropic's shape of an error, with the field in `param`."""
    status = error.status if isinstance(error, RequestError) else 400
    kind = KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    told = {"type": kind, "message": str(error), "param": getattr(error, "param", None)}
    return {"type": "error", "error": told}


def _asked(
    service: Service, body: shape.MessagesRequest
) -> tuple[Options, CallForm | None, list[int]]:
    tools, asked = _tools(body), body.tool_choice
    choice = AUTO if asked is None else CHOICES.get(asked.type, (asked and asked.name) or "")
    places = ("tools[{}].input_schema", "tool_choice")
    called = calling(tools, choice, service.form, service.grammars, None, places)
    top_p = 1.0 if body.top_p is None else body.top_p
    options = Options(
        limit_of(body.max_tokens, service.most_tokens),
        top_k=pick_width(body.top_k, body.temperature, top_p),
        top_p=top_p,
        temperature=temperature_of(body.temperature),
        seed=seed_of(None),
        stop=stops_of(body.stop_sequences),
        grammar=called.grammar,
    )
    return options, called.form, service.chat_prompt(_messages(body), called.tools)


def _tools(body: shape.CountRequest) -> list[Tool]:
    tools = [Tool(t.name, t.description or "", t.input_schema or {}) for t in body.tools or []]
    if len({tool.name for tool in tools}) < len(tools):
        refuse("tools", "tools with names of their own", [tool.name for tool in tools])
    return tools


def _messages(body: shape.CountRequest) -> list[Message]:
    """The conversation; results of calls become messages of their own, before the user's words."""
    read: list[Message] = []
    if body.system:
        read.append(Message("system", _text(body.system, "system")))
    for i, entry in enumerate(body.messages):
        where = f"messages[{i}].content"
        blocks = entry.content if isinstance(entry.content, list) else []
        for block in blocks:
            if block.type == "tool_result":
                said = _text(block.content or "", where)
                read.append(Message(TOOL, said, call_id=block.tool_use_id or ""))
        calls = tuple(
            Call(block.name or "", block.input or {}, block.id or "")
            for block in blocks
            if block.type == "tool_use"
        )
        said = _text(entry.content, where)
        if calls or said or all(block.type != "tool_result" for block in blocks):
            read.append(Message(entry.role, said, calls))
    if read[-1].calls:
        raise RequestError("messages: the results of the last calls are missing", param="messages")
    return read


def _text(content: str | list[shape.Block], where: str) -> str:
    """The texts among the blocks. Raises RequestError for a block without what its type needs."""
    if isinstance(content, str):
        return content
    needed = {"text": "text", "tool_use": "name", "tool_result": "tool_use_id"}
    for i, block in enumerate(content):
        if getattr(block, needed[block.type]) is None:
            refuse(f"{where}[{i}].{needed[block.type]}", f"given in a block {block.type}", None)
    return "\n".join(block.text for block in content if block.type == "text" and block.text)


def _reason(choice: Choice) -> Any:
    if choice.job.stream.stopped:
        return "stop_sequence"
    return "end_turn" if choice.finish_reason == "stop" else "max_tokens"


def _frame(service: Service, choice: Choice, ident: str) -> shape.MadeMessage:
    usage = shape.MessageUsage(input_tokens=len(choice.job.prompt), output_tokens=0)
    return shape.MadeMessage(
        id=ident,
        model=service.model_id(choice.job.adapter),
        content=[],
        stop_reason=None,
        stop_sequence=None,
        usage=usage,
    )


def _block(call: Call) -> shape.MadeBlock:
    ident = call.id.replace("call_", "toolu_")
    return shape.MadeBlock(type="tool_use", id=ident, name=call.name, input=dict(call.arguments))


async def _events(
    service: Service, choice: Choice, form: CallForm | None, ident: str
) -> AsyncIterator[str]:
    """Yield Anthropic's named events: one block, a text in deltas or a call."""
    yield _event("message_start", message=built(_frame(service, choice, ident)))
    opened, reason = False, ""
    empty = {"type": "text", "text": ""}
    try:
        async for part in parts(choice, form):
            if part is None:
                yield _event("ping")
            elif isinstance(part, Call):
                opened, reason = True, "tool_use"
                block = built(_block(part)) | {"input": {}}
                yield _event("content_block_start", index=0, content_block=block)
                said = json.dumps(dict(part.arguments))
                delta = {"type": "input_json_delta", "partial_json": said}
                yield _event("content_block_delta", index=0, delta=delta)
            elif part.text:
                if not opened:
                    yield _event("content_block_start", index=0, content_block=empty)
                opened = True
                delta = {"type": "text_delta", "text": part.text}
                yield _event("content_block_delta", index=0, delta=delta)
    except EmulatorError as error:
        yield f"event: error\ndata: {json.dumps(error_object(error))}\n\n"
        return
    if not opened:
        yield _event("content_block_start", index=0, content_block=empty)
    yield _event("content_block_stop", index=0)
    ended = {
        "stop_reason": reason or _reason(choice),
        "stop_sequence": choice.job.stream.stopped_by,
    }
    usage = {"output_tokens": len(choice.job.answer.token_ids)}
    yield _event("message_delta", delta=ended, usage=usage)
    yield _event("message_stop")


def _event(kind: str, **more: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n"

"""OpenAI's /v1/responses in its text form: whole, or as its events."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emulator.chat.messages import TOOL, Message
from emulator.chat.tools import Call, CallForm, Tool
from emulator.errors import EmulatorError
from emulator.serve.body import RequestError, read, refuse
from emulator.serve.openai_api import note_jobs
from emulator.serve.options import (
    Options,
    format_grammar,
    limit_of,
    pick_width,
    seed_of,
    temperature_of,
)
from emulator.serve.preparing import client_of
from emulator.serve.prompts import GOES_ON, call_arguments, text_of
from emulator.serve.replies import Reply, built, error_object
from emulator.serve.service import AnswerStream, Choice, Service, service_of, whole
from emulator.serve.shapes import responses as shape
from emulator.serve.shapes.atoms import JsonSchema, ResponseFormat
from emulator.serve.tools import AUTO, calling
from emulator.serve.turn import call_in, parts


async def responses(request: Request) -> Response:
    """POST /v1/responses"""
    service, body = service_of(request), await read(request, shape.ResponsesRequest)
    adapter = service.check_model(body.model)
    options, form, prompt = await service.prepared(request, body, _asked, service, body)
    options = replace(options, adapter=adapter)
    service.check_prompt(prompt, "input")
    choices = service.ask([prompt], options, client=client_of(request))
    note_jobs(request, choices)
    answer = _Answer(service, body, options, choices[0], form)
    if body.stream:
        return AnswerStream(service, choices, answer.events(), "text/event-stream")
    (said,) = await whole(request, choices)
    return JSONResponse(built(answer.object(answer.item(said, call_in(said, form)))))


def _asked(
    service: Service, body: shape.ResponsesRequest
) -> tuple[Options, CallForm | None, list[int]]:
    wanted = body.text.format if body.text else None
    schema = None if wanted is None else JsonSchema(schema=wanted.schema)
    constraint = None
    if wanted is not None:
        asked = ResponseFormat(type=wanted.type, json_schema=schema)
        constraint = format_grammar(asked, service.grammars, "text.format.schema")
    tools = [Tool(t.name, t.description or "", t.parameters or {}) for t in body.tools or []]
    choice = body.tool_choice
    named = choice.name if isinstance(choice, shape.NamedFunction) else choice or AUTO
    places = ("tools[{}].parameters", "tool_choice")
    called = calling(tools, named, service.form, service.grammars, constraint, places)
    top_p = 1.0 if body.top_p is None else body.top_p
    options = Options(
        limit_of(body.max_output_tokens, service.most_tokens),
        top_k=pick_width(None, body.temperature, top_p),
        top_p=top_p,
        temperature=temperature_of(body.temperature),
        seed=seed_of(None),
        grammar=called.grammar,
        session=body.prompt_cache_key or body.user or "",
    )
    return options, called.form, service.chat_prompt(_messages(body), called.tools)


def _messages(body: shape.ResponsesRequest) -> list[Message]:
    read = [Message("system", body.instructions)] if body.instructions else []
    if isinstance(body.input, str):
        return [*read, Message("user", body.input)]
    for i, item in enumerate(body.input):
        where = f"input[{i}]"
        if item.type == "function_call":
            if item.name is None:
                refuse(f"{where}.name", "the name of the function", None)
            arguments = call_arguments(item.arguments or "{}", f"{where}.arguments")
            call = Call(item.name, arguments, item.call_id or "")
            read.append(Message("assistant", "", (call,)))
        elif item.type == "function_call_output":
            read.append(Message(TOOL, item.output or "", call_id=item.call_id or ""))
        elif item.role is None:
            refuse(f"{where}.role", "system, developer, user or assistant", None)
        else:
            read.append(Message(item.role, text_of(item.content)))
    if read[-1].role in ("system", "developer") or read[-1].calls:
        raise RequestError(f"input must be {GOES_ON}", param="input")
    return read


@dataclass(slots=True)
class _Answer:
    """One response, of one output item."""

    service: Service
    body: shape.ResponsesRequest
    options: Options
    choice: Choice
    form: CallForm | None
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))
    _sent: int = 0

    def item(self, said: str, call: Call | None) -> shape.OutputItem:
        """The output: a message, or a call."""
        if call is not None:
            return shape.OutputItem(
                id=f"fc_{self.id}",
                type="function_call",
                status="completed",
                call_id=call.id,
                name=call.name,
                arguments=json.dumps(dict(call.arguments)),
            )
        return shape.OutputItem(
            id=f"msg_{self.id}",
            type="message",
            status="completed" if self.choice.finish_reason == "stop" else "incomplete",
            role="assistant",
            content=[shape.OutputText(text=said, annotations=[])],
        )

    def object(self, item: shape.OutputItem | None) -> shape.ResponseObject:
        """The response with its item; in progress without one."""
        cut = item is not None and item.status == "incomplete"
        choice = self.body.tool_choice or AUTO
        return shape.ResponseObject(
            id=f"resp_{self.id}",
            created_at=self.created,
            status="in_progress" if item is None else item.status,
            incomplete_details={"reason": "max_output_tokens"} if cut else None,
            instructions=self.body.instructions,
            max_output_tokens=self.options.max_tokens,
            model=self.service.model_id(self.options.adapter),
            output=[] if item is None else [item],
            temperature=0.0 if self.options.greedy else self.options.temperature,
            text={"format": {"type": "text"}} | built(self.body.text or {}),
            tool_choice=built(choice),
            tools=built(self.body.tools or []),
            top_p=self.options.top_p,
            usage=None if item is None else self._usage(),
            parameters=self.options.to_json(),
            metadata={},
        )

    def _usage(self) -> shape.ResponseUsage:
        usage = Reply(self.service, self.options, [self.choice], chat=True).usage()
        return shape.ResponseUsage(
            input_tokens=usage.prompt_tokens,
            input_tokens_details={"cached_tokens": usage.prompt_tokens_details.cached_tokens},
            output_tokens=usage.completion_tokens,
            output_tokens_details={"reasoning_tokens": 0},
            total_tokens=usage.total_tokens,
            chip=usage.chip,
        )

    async def events(self) -> AsyncIterator[str]:
        """Yield the events of a streamed response."""
        begun = built(self.object(None))
        yield self._event("response.created", response=begun)
        yield self._event("response.in_progress", response=begun)
        said, call, place = "", None, {"item_id": f"msg_{self.id}", "output_index": 0}
        text_place = place | {"content_index": 0}
        try:
            async for part in parts(self.choice, self.form):
                if isinstance(part, Call):
                    call = part
                elif part is not None and part.text:
                    if not said:
                        for event in self._opening(text_place):
                            yield event
                    said += part.text
                    more = text_place | {"delta": part.text, "logprobs": []}
                    yield self._event("response.output_text.delta", **more)
        except EmulatorError as error:
            yield self._event("error", **error_object(error)["error"])
            return
        if not said and call is None:
            for event in self._opening(text_place):
                yield event
        item = self.item(said, call)
        for event in self._closing(item, text_place):
            yield event
        whole = self.object(item)
        yield self._event(f"response.{whole.status}", response=built(whole))

    def _opening(self, place: dict[str, Any]) -> list[str]:
        item = built(self.item("", None)) | {"status": "in_progress", "content": []}
        part = built(shape.OutputText(text="", annotations=[]))
        return [
            self._event("response.output_item.added", output_index=0, item=item),
            self._event("response.content_part.added", **place, part=part),
        ]

    def _closing(self, item: shape.OutputItem, place: dict[str, Any]) -> list[str]:
        done = built(item)
        if item.type == "function_call":
            begun = done | {"status": "in_progress", "arguments": ""}
            said = {"item_id": item.id, "output_index": 0}
            arguments = done["arguments"]
            return [
                self._event("response.output_item.added", output_index=0, item=begun),
                self._event("response.function_call_arguments.delta", **said, delta=arguments),
                self._event(
                    "response.function_call_arguments.done",
                    **said,
                    name=done["name"],
                    arguments=arguments,
                ),
                self._event("response.output_item.done", output_index=0, item=done),
            ]
        (part,) = done["content"]
        text = {"text": part["text"], "logprobs": []}
        return [
            self._event("response.output_text.done", **place, **text),
            self._event("response.content_part.done", **place, part=part),
            self._event("response.output_item.done", output_index=0, item=done),
        ]

    def _event(self, kind: str, **more: Any) -> str:
        told = {"type": kind, "sequence_number": self._sent, **more}
        self._sent += 1
        return f"event: {kind}\ndata: {json.dumps(told)}\n\n"

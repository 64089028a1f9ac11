"""The routes under /v1, as OpenAI's clients expect them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emulator.chat.messages import chat_tokens
from emulator.fields import is_whole
from emulator.serve.access import note
from emulator.serve.body import BODY_BYTES, Body, RequestError, read_body
from emulator.serve.options import Options, openai_options
from emulator.serve.prompts import read_messages, text_tokens
from emulator.serve.replies import Reply
from emulator.serve.service import AnswerStream, Choice, Service, service_of, whole

PROMPTS = 16  # in one request to /v1/completions
MODEL_CHARACTERS = 200


async def models(request: Request) -> Response:
    """GET /v1/models, and the vendor's /models"""
    service = service_of(request)
    names = ["", *service.engine.chip.adapters]
    return JSONResponse({"object": "list", "data": [model_entry(service, name) for name in names]})


async def model(request: Request) -> Response:
    """GET /v1/models/{name}"""
    service = service_of(request)
    adapter = service.check_model(request.path_params["name"])
    return JSONResponse(model_entry(service, adapter))


def model_entry(service: Service, adapter: str = "") -> dict[str, Any]:
    """The model, or the model with an adapter, whose parent it is."""
    return {
        "id": service.model_id(adapter),
        "object": "model",
        "created": service.created,
        "owned_by": "hardwired-llama",
        "context_window": service.context,
        **({"parent": service.name} if adapter else {}),
    }


async def chat_completions(request: Request) -> Response:
    """POST /v1/chat/completions"""
    service, body = service_of(request), await read_body(request)
    adapter = service.check_model(body.text("model", MODEL_CHARACTERS))
    options = await asyncio.to_thread(
        openai_options, body, service.most_tokens, service.grammars, True
    )
    options = replace(options, adapter=adapter)
    messages = read_messages(body, "messages")
    prompt = await asyncio.to_thread(chat_tokens, service.chat, messages)
    service.check_prompt(prompt, "messages")
    return await answer(request, body, [prompt], options, chat=True)


async def completions(request: Request) -> Response:
    """POST /v1/completions"""
    service, body = service_of(request), await read_body(request)
    adapter = service.check_model(body.text("model", MODEL_CHARACTERS))
    options = await asyncio.to_thread(
        openai_options, body, service.most_tokens, service.grammars, False
    )
    options = replace(options, adapter=adapter)
    best = body.whole("best_of", 1, options.choices, options.choices)
    if best != options.choices:
        body.refuse("best_of", "the same as n")
    prompts = await asyncio.to_thread(_prompts, body, service)
    for prompt in prompts:
        service.check_prompt(prompt, "prompt")
    prefix = ""
    if body.truth("echo"):
        if len(prompts) > 1 or options.logprobs is not None:
            body.refuse("echo", "used with one prompt and without logprobs")
        prefix = service.chat.decode(prompts[0])
    return await answer(request, body, prompts, options, chat=False, prefix=prefix)


async def answer(
    request: Request,
    body: Body,
    prompts: list[list[int]],
    options: Options,
    chat: bool,
    prefix: str = "",
) -> Response:
    """Reply to checked prompts, in one object or as a stream."""
    service = service_of(request)
    stream = body.truth("stream")
    usage = body.object("stream_options").truth("include_usage")
    choices = service.ask(prompts, options)
    note_jobs(request, choices)
    reply = Reply(service, options, choices, chat, prefix)
    if stream:
        return AnswerStream(service, choices, reply.stream(usage), "text/event-stream")
    return JSONResponse(reply.whole(await whole(request, choices)))


def note_jobs(request: Request, choices: list[Choice]) -> None:
    """Add counts and times of these answers to the request's log line."""

    def facts() -> dict[str, Any]:
        answers = [choice.job.answer for choice in choices]
        return {
            "prompt_tokens": sum(answer.prompt_tokens for answer in answers),
            "completion_tokens": sum(len(answer.token_ids) for answer in answers),
            "reasons": [answer.reason for answer in answers],
            "chip_us": round(sum(answer.chip_seconds for answer in answers) * 1e6, 1),
        }

    note(request, facts)


def _prompts(body: Body, service: Service) -> list[list[int]]:
    """Token lists of `prompt`, which is a text, texts, token ids, or lists of token ids."""
    value = body.values.get("prompt")
    listed = value if isinstance(value, list) and not _is_ids(value) else [value]
    if not 0 < len(listed) <= PROMPTS:
        body.refuse("prompt", f"1 to {PROMPTS} prompts")
    prompts = []
    for one in listed:
        if isinstance(one, str) and len(one) <= BODY_BYTES:
            prompts.append(text_tokens(service.chat, one))
        elif isinstance(one, list) and _is_ids(one):
            vocabulary = service.image.config.vocabulary
            if not all(0 <= token < vocabulary for token in one):
                raise RequestError(
                    f"prompt: token ids go from 0 to {vocabulary - 1}", param="prompt"
                )
            prompts.append(one)
        else:
            body.refuse("prompt", "a text, a list of token ids, or a list of those")
    return prompts


def _is_ids(value: list[Any]) -> bool:
    return bool(value) and all(is_whole(token) for token in value)

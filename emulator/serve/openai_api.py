"""The completions under /v1, as OpenAI's clients expect them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emulator.chat.tools import CallForm
from emulator.serve.access import note
from emulator.serve.body import read, refuse
from emulator.serve.chances import PromptChances
from emulator.serve.options import Options, openai_options
from emulator.serve.preparing import client_of
from emulator.serve.prompts import prompt_count, prompt_lists, read_messages, text_lengths
from emulator.serve.replies import Reply, built
from emulator.serve.service import AnswerStream, Choice, Service, service_of, whole
from emulator.serve.shapes.atoms import Common
from emulator.serve.shapes.openai import ChatRequest, CompletionRequest
from emulator.serve.shapes.replies import ModelEntry, ModelList
from emulator.serve.tools import calling, choice_of, offered


async def models(request: Request) -> Response:
    """GET /v1/models, and the vendor's /models"""
    service = service_of(request)
    names = ["", *service.engine.chip.adapters]
    return JSONResponse(built(ModelList(data=[model_entry(service, name) for name in names])))


async def model(request: Request) -> Response:
    """GET /v1/models/{name}"""
    service = service_of(request)
    adapter = service.check_model(request.path_params["name"])
    return JSONResponse(built(model_entry(service, adapter)))


def model_entry(service: Service, adapter: str = "") -> ModelEntry:
    """The model, or the model with an adapter, whose parent it is."""
    return ModelEntry(
        id=service.model_id(adapter),
        created=service.created,
        owned_by="hardwired-llama",
        context_window=service.context,
        parent=service.name if adapter else UNSET,
    )


async def chat_completions(request: Request) -> Response:
    """POST /v1/chat/completions"""
    service, body = service_of(request), await read(request, ChatRequest)
    adapter = service.check_model(body.model)
    options, form, prompt = await service.prepared(
        request, body, _chat, service, body, count=body.n or 1
    )
    options = replace(options, adapter=adapter)
    service.check_prompt(prompt, "messages")
    return await answer(request, body, [prompt], options, chat=True, form=form)


def _chat(service: Service, body: ChatRequest) -> tuple[Options, CallForm | None, list[int]]:
    options = openai_options(body, service.most_tokens, service.grammars)
    messages = read_messages(body.messages, "messages")
    tools, choice = offered(body.tools), choice_of(body.tool_choice)
    called = calling(tools, choice, service.form, service.grammars, options.grammar)
    prompt = service.chat_prompt(messages, called.tools)
    return replace(options, grammar=called.grammar), called.form, prompt


async def completions(request: Request) -> Response:
    """POST /v1/completions"""
    service, body = service_of(request), await read(request, CompletionRequest)
    adapter = service.check_model(body.model)
    options, prompts = await service.prepared(
        request, body, _completion, service, body, count=(body.n or 1) * prompt_count(body.prompt)
    )
    options = replace(options, adapter=adapter)
    if body.best_of is not None and body.best_of != options.choices:
        refuse("best_of", "the same as n", body.best_of)
    for prompt in prompts:
        service.check_prompt(prompt, "prompt")
    if not body.echo:
        return await answer(request, body, prompts, options, chat=False)
    prefixes = [service.chat.decode(prompt) for prompt in prompts]
    if options.logprobs is None:
        return await answer(request, body, prompts, options, chat=False, prefixes=prefixes)
    if body.stream:
        refuse("stream", "false, with echo and logprobs", True)
    if body.max_tokens == 0:  # the prompt's own probabilities are all that is wanted
        options = replace(options, max_tokens=0)
    reader = partial(PromptChances, top=options.logprobs or 0)
    return await answer(
        request, body, prompts, options, chat=False, prefixes=prefixes, reader=reader
    )


def _completion(service: Service, body: CompletionRequest) -> tuple[Options, list[list[int]]]:
    service.check_length(text_lengths(body.prompt), "prompt")
    options = openai_options(body, service.most_tokens, service.grammars)
    return options, prompt_lists(service.chat, service.image.config, body.prompt, "prompt")


async def answer(
    request: Request,
    body: Common,
    prompts: list[list[int]],
    options: Options,
    chat: bool,
    prefixes: list[str] | None = None,
    form: CallForm | None = None,
    reader: Any = None,
) -> Response:
    """Reply to checked prompts, in one object or as a stream."""
    service = service_of(request)
    choices = service.ask(prompts, options, reader, client_of(request))
    note_jobs(request, choices)
    reply = Reply(service, options, choices, chat, prefixes or [], form)
    if body.stream:
        usage = bool(body.stream_options and body.stream_options.include_usage)
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

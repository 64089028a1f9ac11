"""Ollama's routes, as its clients use them: JSON objects, one a line while an answer streams."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emulator import __version__
from emulator.chat.messages import SYSTEM_ROLES, Message
from emulator.chat.tools import Call, CallForm
from emulator.errors import EmulatorError
from emulator.serve import demo
from emulator.serve.body import RequestError, checked, read, read_body
from emulator.serve.grammar import Grammars
from emulator.serve.openai_api import note_jobs
from emulator.serve.options import Options, limit_of, pick_width, seed_of, stops_of, temperature_of
from emulator.serve.penalties import Penalties
from emulator.serve.preparing import client_of
from emulator.serve.prompts import GOES_ON, text_tokens
from emulator.serve.replies import built
from emulator.serve.service import AnswerStream, Choice, Service, service_of, whole
from emulator.serve.shapes import ollama as shape
from emulator.serve.tools import AUTO, calling, offered
from emulator.serve.turn import call_in, parts

MEDIA = "application/x-ndjson"
LATEST = ":latest"  # the tag that Ollama's clients add to a name
LINE = Callable[..., shape.Ended]


async def version(request: Request) -> Response:
    """GET /api/version"""
    return JSONResponse(built(shape.Version(version=__version__)))


async def tags(request: Request) -> Response:
    """GET /api/tags"""
    service = service_of(request)
    tag = shape.Tag(
        name=service.name + LATEST,
        model=service.name + LATEST,
        modified_at=_stamp(service.created),
        size=service.image.size_bytes,
        digest=service.image.digest,
        details=_details(service),
    )
    return JSONResponse(built(shape.Tags(models=[tag])))


async def show(request: Request) -> Response:
    """POST /api/show"""
    service, body = service_of(request), await read(request, shape.OllamaShow)
    _check_model(service, body.model or body.name or "")
    config, checkpoint = service.image.config, service.image.manifest["checkpoint"]
    shown = shape.Shown(
        modelfile=f"# masks {service.image.digest[:12]}\nFROM {service.name}\n",
        parameters=f"num_ctx {service.context}",
        template=service.template.source if service.template else "",
        license=str(checkpoint["license"]),
        details=_details(service),
        model_info={
            "general.architecture": "llama",
            "general.parameter_count": config.parameters,
            "llama.block_count": config.layers,
            "llama.context_length": service.context,
            "llama.embedding_length": config.hidden,
        },
        capabilities=["completion", "tools"],
        modified_at=_stamp(service.created),
    )
    return JSONResponse(built(shown))


async def generate(request: Request) -> Response:
    """POST /api/generate: a prompt in the model's chat format, or with `raw` as it is."""
    service, body = service_of(request), await read(request, shape.OllamaGenerate)
    adapter = _check_model(service, body.model)
    options, prompt = await service.prepared(request, body, _generation, service, body)
    options = replace(options, adapter=adapter)

    def line(said: str, call: Call | None, **more: Any) -> shape.Ended:
        return shape.Generated(model=body.model, created_at=_now(), response=said, **more)

    if not body.prompt:  # clients load a model this way
        return JSONResponse(built(line("", None, done=True, done_reason="load")))
    service.check_prompt(prompt, "prompt")
    return await _answer(request, body, prompt, options, None, line)


async def chat(request: Request) -> Response:
    """POST /api/chat: Ollama's body names a `model`, the demo's has `chatOptions`."""
    service = service_of(request)
    if service.faithful:
        return await demo.chat(request)
    values = await read_body(request)
    if "chatOptions" in values or "model" not in values:
        return await demo.answer(request, values)
    if values.get("messages") == []:  # clients load a model this way
        model = checked({**values, "messages": [{"role": "user"}]}, shape.OllamaChat).model
        _check_model(service, model)
        said = shape.SaidMessage(content="")
        loaded = shape.Chatted(
            model=model, created_at=_now(), message=said, done=True, done_reason="load"
        )
        return JSONResponse(built(loaded))
    body = checked(values, shape.OllamaChat)
    adapter = _check_model(service, body.model)
    options, form, prompt = await service.prepared(request, body, _chat, service, body)
    options = replace(options, adapter=adapter)
    service.check_prompt(prompt, "messages")

    def line(said: str, call: Call | None, **more: Any) -> shape.Ended:
        message = shape.SaidMessage(content=said)
        if call is not None:
            made = shape.MadeOllamaFunction(name=call.name, arguments=dict(call.arguments))
            message.tool_calls = [shape.MadeOllamaCall(function=made)]
        return shape.Chatted(model=body.model, created_at=_now(), message=message, **more)

    return await _answer(request, body, prompt, options, form, line)


def _check_model(service: Service, name: str) -> str:
    """The adapter that `name` asks for. Raises RequestError 404."""
    return service.check_model(name.removesuffix(LATEST))


def _generation(service: Service, body: shape.OllamaGenerate) -> tuple[Options, list[int]]:
    options = _options(service, body)
    options = replace(options, grammar=_format(body, service.grammars))
    if body.raw:
        service.check_length([len(body.prompt or "")], "prompt")
        return options, text_tokens(service.chat, body.prompt or "")
    messages = [Message("system", body.system)] if body.system else []
    return options, service.chat_prompt([*messages, Message("user", body.prompt or "")])


def _chat(service: Service, body: shape.OllamaChat) -> tuple[Options, CallForm | None, list[int]]:
    messages = [_message(entry) for entry in body.messages]
    if messages[-1].role in SYSTEM_ROLES or messages[-1].calls:
        raise RequestError(f"messages must be {GOES_ON}", param="messages")
    grammar = _format(body, service.grammars)
    called = calling(offered(body.tools), AUTO, service.form, service.grammars, grammar)
    options = replace(_options(service, body), grammar=called.grammar)
    return options, called.form, service.chat_prompt(messages, called.tools)


def _message(entry: shape.OllamaMessage) -> Message:
    calls = [Call(c.function.name, c.function.arguments or {}) for c in entry.tool_calls or []]
    return Message(entry.role, entry.content or "", tuple(calls), name=entry.tool_name or "")


def _options(service: Service, body: shape.OllamaRequest) -> Options:
    wishes = body.options or shape.OllamaOptions()
    top_p = 1.0 if wishes.top_p is None else wishes.top_p
    return Options(
        limit_of(max(wishes.num_predict or 0, 0), service.most_tokens),
        top_k=pick_width(wishes.top_k, wishes.temperature, top_p),
        top_p=top_p,
        temperature=temperature_of(wishes.temperature, "options.temperature"),
        seed=seed_of(wishes.seed, "options.seed"),
        stop=stops_of(wishes.stop),
        penalties=Penalties.of(
            wishes.frequency_penalty,
            wishes.presence_penalty,
            wishes.repeat_penalty,
            None,
            service.grammars.vocabulary,
        ),
    )


def _format(body: shape.OllamaRequest, grammars: Grammars) -> str | None:
    if not body.format:
        return None
    schema = {"type": "object"} if body.format == "json" else body.format
    return grammars.json_schema(schema, "format") if isinstance(schema, dict) else None


async def _answer(
    request: Request,
    body: shape.OllamaRequest,
    prompt: list[int],
    options: Options,
    form: CallForm | None,
    line: LINE,
) -> Response:
    service, arrived = service_of(request), time.monotonic()
    choices = service.ask([prompt], options, client=client_of(request))
    note_jobs(request, choices)
    if body.stream is not False:
        lines = _lines(choices[0], form, line, arrived)
        return AnswerStream(service, choices, lines, MEDIA)
    (said,) = await whole(request, choices)
    call = call_in(said, form)
    ended = line("" if call else said, call, done=True, **_costs(choices[0], arrived))
    return JSONResponse(built(ended))


async def _lines(
    choice: Choice, form: CallForm | None, line: LINE, arrived: float
) -> AsyncIterator[str]:
    """Yield the answer as it comes, then the line with its costs."""
    try:
        async for part in parts(choice, form):
            if isinstance(part, Call):
                yield _ndjson(built(line("", part, done=False)))
            elif part is not None and part.text:
                yield _ndjson(built(line(part.text, None, done=False)))
        yield _ndjson(built(line("", None, done=True, **_costs(choice, arrived))))
    except EmulatorError as error:
        yield _ndjson({"error": str(error)})


def _costs(choice: Choice, arrived: float) -> dict[str, Any]:
    answer = choice.job.answer
    prefill = answer.prefill_cycles / answer.clock_hz
    return {
        "done_reason": choice.finish_reason,
        "total_duration": round((time.monotonic() - arrived) * 1e9),
        "load_duration": 0,
        "prompt_eval_count": answer.prompt_tokens,
        "prompt_eval_duration": round(prefill * 1e9),
        "eval_count": len(answer.token_ids),
        "eval_duration": round((answer.chip_seconds - prefill) * 1e9),
    }


def _details(service: Service) -> shape.Details:
    image = service.image
    return shape.Details(
        format="rom",
        family="llama",
        families=["llama"],
        parameter_size=f"{image.config.parameters / 1e6:,.0f}M",
        quantization_level=f"{image.bits_per_weight:.2f} bits",
    )


def _ndjson(value: Any) -> str:
    return json.dumps(value) + "\n"


def _now() -> str:
    return _stamp(time.time())


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))

"""The OpenAPI description of the server, at /openapi.json.

Its ranges are the constants that the checks use, so that the two cannot differ.
"""

from __future__ import annotations

from typing import Any

from emulator import __version__
from emulator.chat.messages import ROLES, SYSTEM_ROLES
from emulator.chat.sampler import SEED_BITS, TEMPERATURES
from emulator.config import MAX_K
from emulator.fields import PLAIN_NAME
from emulator.serve.options import MOST_CHOICES, MOST_LOGPROBS, STOP_CHARACTERS, STOPS
from emulator.serve.prompts import MESSAGES
from emulator.serve.service import VENDOR_MODEL

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
SOME_TEXT: Schema = {"type": "string", "minLength": 1}
MODEL: Schema = {"type": "string", "examples": [VENDOR_MODEL]}
TRUTH: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}


def _whole(least: int, most: int | None = None) -> Schema:
    schema: Schema = {"type": "integer", "minimum": least}
    return schema if most is None else schema | {"maximum": most}


def _list(items: Schema, most: int, least: int = 1) -> Schema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def _object(required: tuple[str, ...], **properties: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties}


MESSAGE = _object(
    ("role", "content"), role={"type": "string", "enum": [*SYSTEM_ROLES, *ROLES]}, content=TEXT
)
STOP_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": STOP_CHARACTERS}
COMMON: dict[str, Schema] = {
    "temperature": {
        "anyOf": [
            {"type": "number", "minimum": TEMPERATURES[0], "maximum": TEMPERATURES[1]},
            {"const": 0},
        ]
    },
    "seed": _whole(-(1 << 63), (1 << SEED_BITS) - 1),
    "stop": {"anyOf": [STOP_TEXT, _list(STOP_TEXT, STOPS, 0)]},
    "stream": TRUTH,
    "stream_options": _object((), include_usage=TRUTH),
    "guided_json": OBJECT,
    "guided_regex": TEXT,
    "ignore_eos": TRUTH,
    "response_format": _object(
        (),
        type={"type": "string", "enum": ["text", "json_object", "json_schema"]},
        json_schema=_object((), schema=OBJECT),
    ),
}
V1: dict[str, Schema] = {
    **COMMON,
    "model": MODEL,
    "max_tokens": _whole(0),
    "max_completion_tokens": _whole(0),
    "min_tokens": _whole(0),
    "top_p": {"type": "number", "minimum": 0, "maximum": 1},
    "top_k": _whole(0),
    "n": _whole(1, MOST_CHOICES),
}
PROMPT: Schema = {
    "anyOf": [
        SOME_TEXT,
        _list(_whole(0), 1 << 16),
        _list(SOME_TEXT, 16),
        _list(_list(_whole(0), 1 << 16), 16),
    ]
}
CHAT = _object(
    ("messages",),
    **V1,
    messages=_list(MESSAGE, MESSAGES),
    logprobs=TRUTH,
    top_logprobs=_whole(0, MOST_LOGPROBS),
)
COMPLETION = _object(
    ("prompt",), **V1, prompt=PROMPT, logprobs=_whole(0, MOST_LOGPROBS), echo=TRUTH
)
GENERATE = _object(
    ("prompt",),
    **COMMON,
    model=MODEL,
    prompt={"anyOf": [SOME_TEXT, _list(MESSAGE, MESSAGES)]},
    topk=_whole(1, MAX_K),
    max_output_tokens=_whole(0),
    min_output_tokens=_whole(0),
    logprobs=TRUTH,
    top_logprobs=_whole(0, MOST_LOGPROBS),
    echo=TRUTH,
)
DEMO_CHAT = _object(
    ("messages", "chatOptions"),
    messages=_list(MESSAGE, MESSAGES),
    chatOptions=_object(
        ("selectedModel",),
        selectedModel=MODEL | {"minLength": 1},
        systemPrompt=TEXT,
        topK=_whole(1),
    ),
    attachment={"anyOf": [_object((), name=TEXT, content=TEXT), {"type": "null"}]},
)
LORA_NAME: Schema = {"type": "string", "pattern": f"^{PLAIN_NAME.pattern}$"}
LOAD_LORA = _object(("lora_name", "lora_path"), lora_name=LORA_NAME, lora_path=SOME_TEXT)
UNLOAD_LORA = _object(("lora_name",), lora_name=LORA_NAME)
GETS = {
    "/v1/models": "the model, and with each adapter, in OpenAI's list",
    "/health": "queue and proof that a token was made",
    "/models": "the one model",
    "/api/health": "the demo's health",
    "/api/models": "the demo's list",
    "/hardwired/about": "model and chip",
    "/metrics": "numbers for Prometheus",
}
POSTS = {
    "/v1/chat/completions": ("an answer in OpenAI's shape", CHAT),
    "/v1/completions": ("a continuation in OpenAI's shape", COMPLETION),
    "/v1/load_lora_adapter": ("an adapter into the chip's SRAM", LOAD_LORA),
    "/v1/unload_lora_adapter": ("an adapter out of it", UNLOAD_LORA),
    "/generate": ("an answer to the vendor's fields", GENERATE),
    "/api/chat": ("the demo's answer: text, then stats", DEMO_CHAT),
}
ERRORS = ("400", "401", "403", "404", "408", "413", "422", "429", "503")


def _operation(summary: str, **more: Any) -> Schema:
    responses = {code: {"description": "refused, with the reason"} for code in ERRORS}
    return {"summary": summary, "responses": {"200": {"description": summary}, **responses}, **more}


def openapi() -> Schema:
    """The whole description, OpenAPI 3.1."""
    paths = {path: {"get": _operation(summary)} for path, summary in GETS.items()}
    for path, (summary, schema) in POSTS.items():
        body = {"required": True, "content": {"application/json": {"schema": schema}}}
        paths[path] = {"post": _operation(summary, requestBody=body)}
    context = {"name": "context", "in": "query", "schema": _whole(1)}
    cycles = _operation("cycles by block of a token", parameters=[context])
    paths["/hardwired/cycles"] = {"get": cycles}
    about = {"title": "hardwired-llama", "version": __version__}
    return {"openapi": "3.1.0", "info": about, "paths": paths}

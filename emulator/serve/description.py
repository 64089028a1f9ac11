"""The OpenAPI description of the server, at /openapi.json.

Bodies are described from the declarations that check them (`emulator.serve.shapes`), so that the
two cannot differ.
"""

from __future__ import annotations

from typing import Any

import msgspec

from emulator import __version__
from emulator.serve.shapes import (
    adapters,
    anthropic,
    ollama,
    openai,
    replies,
    responses,
    tokens,
    vendor,
)

Schema = dict[str, Any]
GETS: dict[str, tuple[str, Any]] = {
    "/v1/models": ("the model, and with each adapter, in OpenAI's list", replies.ModelList),
    "/health": ("queue and proof that a token was made", None),
    "/models": ("the one model", replies.ModelList),
    "/tokenizer_info": ("the vocabulary and its control tokens", tokens.TokenizerInfo),
    "/api/health": ("the demo's health", None),
    "/api/models": ("the demo's list", None),
    "/api/version": ("the version, as Ollama's clients ask", ollama.Version),
    "/api/tags": ("the one model, in Ollama's list", ollama.Tags),
    "/hardwired/about": ("model and chip", None),
    "/metrics": ("numbers for Prometheus", None),
}
STREAMS = ("text/event-stream", "application/x-ndjson")
POSTS: dict[str, tuple[str, Any, Any]] = {  # summary, request, reply
    "/v1/chat/completions": ("an answer, OpenAI's way", openai.ChatRequest, replies.ChatCompletion),
    "/v1/completions": ("a continuation", openai.CompletionRequest, replies.Completion),
    "/v1/responses": ("an answer", responses.ResponsesRequest, responses.ResponseObject),
    "/v1/embeddings": ("means of hidden states", openai.EmbeddingRequest, replies.EmbeddingList),
    "/v1/messages": (
        "an answer, Anthropic's way",
        anthropic.MessagesRequest,
        anthropic.MadeMessage,
    ),
    "/v1/messages/count_tokens": (
        "tokens of a conversation",
        anthropic.CountRequest,
        anthropic.TokenCount,
    ),
    "/v1/load_lora_adapter": (
        "an adapter into the chip's SRAM",
        adapters.LoadRequest,
        adapters.Loaded,
    ),
    "/v1/unload_lora_adapter": (
        "an adapter out of it",
        adapters.UnloadRequest,
        adapters.Unloaded,
    ),
    "/tokenize": ("token ids", tokens.TokenizeRequest, tokens.Tokenized),
    "/detokenize": ("the text of token ids", tokens.DetokenizeRequest, tokens.Detokenized),
    "/generate": (
        "an answer to the vendor's fields",
        vendor.GenerateRequest,
        (replies.ChatCompletion, replies.Completion),
    ),
    "/api/chat": (
        "the demo's answer (text, then stats), or Ollama's to a body with `model`",
        (vendor.DemoRequest, ollama.OllamaChat),
        ollama.Chatted,
    ),
    "/api/generate": ("an answer, Ollama's way", ollama.OllamaGenerate, ollama.Generated),
    "/api/show": ("facts about the model", ollama.OllamaShow, ollama.Shown),
}
ERRORS = ("400", "401", "403", "404", "408", "413", "422", "429", "503")


def _operation(summary: str, content: Schema | None = None, **more: Any) -> Schema:
    responses = {code: {"description": "refused, with the reason"} for code in ERRORS}
    good = {"description": summary, **({"content": content} if content else {})}
    return {"summary": summary, "responses": {"200": good, **responses}, **more}


def openapi() -> Schema:
    """The whole description, OpenAPI 3.1."""
    bodies = [kind for _, kind in GETS.values() if kind]
    bodies += [kind for _, *kinds in POSTS.values() for entry in kinds for kind in _listed(entry)]
    schemas, parts = msgspec.json.schema_components(
        bodies, ref_template="#/components/schemas/{name}"
    )
    found = dict(zip(bodies, schemas, strict=True))

    def content(kind: Any, streams: bool = False) -> Schema:
        schemas = [found[one] for one in _listed(kind)]
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        told: Schema = {"application/json": {"schema": schema}} if schemas else {}
        streamed: Schema = {media: {} for media in STREAMS}
        return told | (streamed if streams else {})

    paths: Schema = {
        path: {"get": _operation(summary, content(kind))} for path, (summary, kind) in GETS.items()
    }
    for path, (summary, kind, reply) in POSTS.items():
        body = {"required": True, "content": content(kind)}
        paths[path] = {"post": _operation(summary, content(reply, True), requestBody=body)}
    context = {"name": "context", "in": "query", "schema": {"type": "integer", "minimum": 1}}
    cycles = _operation("cycles by block of a token", parameters=[context])
    paths["/hardwired/cycles"] = {"get": cycles}
    die = _operation("floor plan, energy and schedule of a token", parameters=[context])
    paths["/hardwired/die"] = {"get": die}
    about = {"title": "hardwired-llama", "version": __version__}
    return {"openapi": "3.1.0", "info": about, "paths": paths, "components": {"schemas": parts}}


def _listed(kind: Any) -> list[Any]:
    """The declarations of a body: none, one, or alternatives."""
    return list(kind) if isinstance(kind, tuple) else [kind] if kind else []

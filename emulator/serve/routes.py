"""Every route that programs ask: its handler, and the bodies that the description tells of.

The application and the description at /openapi.json are both made of this table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from emulator.serve import (
    about,
    adapters,
    anthropic,
    demo,
    embeddings,
    ollama,
    openai_api,
    responses_api,
    tokens_api,
    vendor,
)
from emulator.serve.die import die
from emulator.serve.shapes import adapters as adapter_shapes
from emulator.serve.shapes import anthropic as anthropic_shapes
from emulator.serve.shapes import ollama as ollama_shapes
from emulator.serve.shapes import openai, replies, responses, tokens
from emulator.serve.shapes import vendor as vendor_shapes


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path, what answers it, and the declarations of its bodies (of a tuple, one of them)."""

    path: str
    handler: Callable[[Request], Awaitable[Response]]
    summary: str
    reply: Any = None  # None: a body that is not declared
    request: Any = None  # None: a GET
    takes_context: bool = False  # in the query
    of_demo: bool = True  # False: the vendor's demo lacks it, and so does --faithful


ENDPOINTS = (
    Endpoint(
        "/v1/models",
        openai_api.models,
        "the model, and with each adapter, in OpenAI's list",
        replies.ModelList,
    ),
    Endpoint(
        "/v1/chat/completions",
        openai_api.chat_completions,
        "an answer, OpenAI's way",
        replies.ChatCompletion,
        openai.ChatRequest,
    ),
    Endpoint(
        "/v1/completions",
        openai_api.completions,
        "a continuation",
        replies.Completion,
        openai.CompletionRequest,
    ),
    Endpoint(
        "/v1/responses",
        responses_api.responses,
        "an answer",
        responses.ResponseObject,
        responses.ResponsesRequest,
    ),
    Endpoint(
        "/v1/embeddings",
        embeddings.embeddings,
        "means of hidden states",
        replies.EmbeddingList,
        openai.EmbeddingRequest,
    ),
    Endpoint(
        "/v1/messages",
        anthropic.messages,
        "an answer, Anthropic's way",
        anthropic_shapes.MadeMessage,
        anthropic_shapes.MessagesRequest,
    ),
    Endpoint(
        "/v1/messages/count_tokens",
        anthropic.count_tokens,
        "tokens of a conversation",
        anthropic_shapes.TokenCount,
        anthropic_shapes.CountRequest,
    ),
    Endpoint(
        "/v1/load_lora_adapter",
        adapters.load,
        "an adapter into the chip's SRAM",
        adapter_shapes.Loaded,
        adapter_shapes.LoadRequest,
    ),
    Endpoint(
        "/v1/unload_lora_adapter",
        adapters.unload,
        "an adapter out of it",
        adapter_shapes.Unloaded,
        adapter_shapes.UnloadRequest,
    ),
    Endpoint(
        "/tokenize", tokens_api.tokenize, "token ids", tokens.Tokenized, tokens.TokenizeRequest
    ),
    Endpoint(
        "/detokenize",
        tokens_api.detokenize,
        "the text of token ids",
        tokens.Detokenized,
        tokens.DetokenizeRequest,
    ),
    Endpoint(
        "/tokenizer_info",
        tokens_api.tokenizer_info,
        "the vocabulary and its control tokens",
        tokens.TokenizerInfo,
    ),
    Endpoint("/health", vendor.health, "queue and proof that a token was made"),
    Endpoint("/models", openai_api.models, "the one model", replies.ModelList),
    Endpoint(
        "/generate",
        vendor.generate,
        "an answer to the vendor's fields",
        (replies.ChatCompletion, replies.Completion),
        vendor_shapes.GenerateRequest,
    ),
    Endpoint(
        "/api/chat",
        ollama.chat,
        "the demo's answer (text, then stats), or Ollama's to a body with `model`",
        ollama_shapes.Chatted,
        (vendor_shapes.DemoRequest, ollama_shapes.OllamaChat),
    ),
    Endpoint("/api/models", demo.models, "the demo's list"),
    Endpoint("/api/health", demo.health, "the demo's health"),
    Endpoint(
        "/api/version",
        ollama.version,
        "the version, as Ollama's clients ask",
        ollama_shapes.Version,
        of_demo=False,
    ),
    Endpoint(
        "/api/tags",
        ollama.tags,
        "the one model, in Ollama's list",
        ollama_shapes.Tags,
        of_demo=False,
    ),
    Endpoint(
        "/api/show",
        ollama.show,
        "facts about the model",
        ollama_shapes.Shown,
        ollama_shapes.OllamaShow,
        of_demo=False,
    ),
    Endpoint(
        "/api/generate",
        ollama.generate,
        "an answer, Ollama's way",
        ollama_shapes.Generated,
        ollama_shapes.OllamaGenerate,
        of_demo=False,
    ),
    Endpoint("/metrics", about.metrics, "numbers for Prometheus"),
    Endpoint("/hardwired/about", about.about, "model and chip"),
    Endpoint("/hardwired/cycles", about.cycles, "cycles by block of a token", takes_context=True),
    Endpoint(
        "/hardwired/die", die, "floor plan, energy and schedule of a token", takes_context=True
    ),
)

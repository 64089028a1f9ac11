"""OpenAI's replies, with the fields that only an emulator knows: `chip`, `host`, `parameters`."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from emulator.serve.shapes.atoms import Schema

Finish = Literal["stop", "length", "tool_calls"]


class Reply(Struct, kw_only=True):
    """A reply or a part of one. A field that is UNSET is left out."""


class TokenEntry(Reply, kw_only=True):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TokenEntry, kw_only=True):
    top_logprobs: list[TokenEntry]


class ChatLogprobs(Reply, kw_only=True):
    content: list[TokenLogprob]
    refusal: None = None


class TextLogprobs(Reply, kw_only=True):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]


class MadeFunction(Reply, kw_only=True):
    name: str
    arguments: str


class MadeCall(Reply, kw_only=True):
    index: int | UnsetType = UNSET  # in a stream
    id: str
    type: Literal["function"] = "function"
    function: MadeFunction


class AnswerMessage(Reply, kw_only=True):
    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[MadeCall] | UnsetType = UNSET


class ChatChoice(Reply, kw_only=True):
    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: Finish


class TextChoice(Reply, kw_only=True):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Finish | None


class CachedTokens(Reply, kw_only=True):
    cached_tokens: int


class ChipCost(Reply, kw_only=True):
    """What the answers cost on the chip (estimate)."""

    cycles: int
    cycles_by_block: dict[str, int]
    seconds: float
    ttft_seconds: float
    tokens_per_second: float
    estimate: bool = True


class HostCost(Reply, kw_only=True):
    """What they cost on this computer (measured)."""

    queue_seconds: float
    ttft_seconds: float
    seconds: float
    drafted: int  # tokens that ran ahead of their turn
    accepted: int  # of them, those that came


class Usage(Reply, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens
    chip: ChipCost
    host: HostCost


class Frame(Reply, kw_only=True):
    """What every reply and every chunk begins with."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str


class ChatCompletion(Frame, kw_only=True):
    choices: list[ChatChoice]
    usage: Usage
    parameters: Schema


class Completion(Frame, kw_only=True):
    choices: list[TextChoice]
    usage: Usage
    parameters: Schema


class ErrorDetail(Reply, kw_only=True):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(Reply, kw_only=True):
    error: ErrorDetail


class ModelEntry(Reply, kw_only=True):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    context_window: int
    parent: str | UnsetType = UNSET  # of the model with an adapter


class ModelList(Reply, kw_only=True):
    object: Literal["list"] = "list"
    data: list[ModelEntry]


class Embedding(Reply, kw_only=True):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str  # base64 of little-endian float32


class EmbeddingUsage(Reply, kw_only=True):
    prompt_tokens: int
    total_tokens: int
    chip: dict[str, Any]


class EmbeddingList(Reply, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    pooling: str
    usage: EmbeddingUsage

"""Requests and replies about tokens, by the names that vLLM's server gave these routes."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from emulator.serve.shapes.atoms import Name, Shape, Text
from emulator.serve.shapes.openai import Messages, TokenId, Tools
from emulator.serve.shapes.replies import Reply


class TokenizeRequest(Shape, kw_only=True):
    """POST /tokenize: a text, or a conversation as the model would get it"""

    model: Name | None = None
    prompt: Text | None = None
    messages: Messages | None = None
    tools: Tools | None = None
    add_special_tokens: bool | None = None


class DetokenizeRequest(Shape, kw_only=True):
    """POST /detokenize"""

    model: Name | None = None
    tokens: Annotated[list[TokenId], Meta(max_length=1 << 16)]


class Tokenized(Reply, kw_only=True):
    count: int
    max_model_len: int
    tokens: list[int]


class Detokenized(Reply, kw_only=True):
    prompt: str


class TokenizerInfo(Reply, kw_only=True):
    tokenizer_class: str
    vocab_size: int
    model_max_length: int
    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    chat_template: str | None

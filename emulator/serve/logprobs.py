"""Log probabilities in OpenAI's two shapes."""

from __future__ import annotations

from typing import Any

from llguidance import LLTokenizer

from emulator.serve.chances import TokenChances
from emulator.serve.shapes.replies import ChatLogprobs, TextLogprobs, TokenEntry, TokenLogprob


def chat_logprobs(tokens: LLTokenizer, chances: list[TokenChances]) -> ChatLogprobs:
    """As chat completions give them."""
    return ChatLogprobs(content=[_token(tokens, one) for one in chances])


def text_logprobs(tokens: LLTokenizer, chances: list[TokenChances]) -> TextLogprobs:
    """As completions give them; the first token of an echoed prompt has no probability."""

    def top(one: TokenChances) -> dict[str, float] | None:
        return None if one.logprob is None else {_text(tokens, i): p for i, p in one.top}

    return TextLogprobs(
        tokens=[_text(tokens, one.token) for one in chances],
        token_logprobs=[one.logprob for one in chances],
        top_logprobs=[top(one) for one in chances],
    )


def _token(tokens: LLTokenizer, one: TokenChances) -> TokenLogprob:
    entry = _fields(tokens, one.token, one.logprob or 0.0)
    top = [TokenEntry(**_fields(tokens, token, logprob)) for token, logprob in one.top]
    return TokenLogprob(**entry, top_logprobs=top)


def _fields(tokens: LLTokenizer, token: int, logprob: float) -> dict[str, Any]:
    raw = list(tokens.decode_bytes([token]))
    return {"token": _text(tokens, token), "logprob": logprob, "bytes": raw}


def _text(tokens: LLTokenizer, token: int) -> str:
    return tokens.decode_bytes([token]).decode("utf-8", "replace")

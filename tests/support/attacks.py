"""Requests that are cheap to send and dear to read, as an adversary found them."""

from __future__ import annotations

import json
from typing import Any

COSTLY = ["a?" * 30_000, "(a?b?c?d?){400}" * 9]  # expressions
WIDE = {  # a schema
    "type": "object",
    "properties": {f"property_{i}": {"type": "string"} for i in range(2000)},
}
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
USER = [{"role": "user", "content": "hi"}]


def attack(kind: str, number: int) -> tuple[str, dict[str, Any]]:
    """Path and body of an attack of a kind of KINDS; each `number` is another body."""
    return KINDS[kind](number)


def _regex(number: int) -> tuple[str, dict[str, Any]]:
    body = {"messages": USER, "guided_regex": f"x{number}" + COSTLY[0], "n": 3, "max_tokens": 20}
    return CHAT, body


def _schema(number: int) -> tuple[str, dict[str, Any]]:
    schema = {**WIDE, "title": str(number)}
    return COMPLETIONS, {"prompt": ["a"] * 16, "n": 8, "guided_json": schema}


def _tokens(number: int) -> tuple[str, dict[str, Any]]:
    return COMPLETIONS, {"prompt": str(number % 10) * 500_000}


def _counting(number: int) -> tuple[str, dict[str, Any]]:
    return "/tokenize", {"prompt": str(number % 10) * 500_000}


def _ids(number: int) -> tuple[str, dict[str, Any]]:
    return "/detokenize", {"tokens": [number % 10] * 170_000}


def _places(number: int) -> tuple[str, dict[str, Any]]:
    return COMPLETIONS, {"prompt": ["a"] * 4, "n": 8, "max_tokens": 50, "ignore_eos": True}


def _messages(number: int) -> tuple[str, dict[str, Any]]:
    words = "word " * 400
    return CHAT, {"messages": [{"role": "user", "content": words}] * 200 + USER}


def _tools(number: int) -> tuple[str, dict[str, Any]]:
    parameters = {**WIDE, "properties": dict(list(WIDE["properties"].items())[:300])}
    tools = [
        {"type": "function", "function": {"name": f"f{number}_{i}", "parameters": parameters}}
        for i in range(16)
    ]
    return CHAT, {"messages": USER, "tools": tools, "max_tokens": 5}


KINDS = {
    "regex": _regex,
    "schema": _schema,
    "tokens": _tokens,
    "counting": _counting,
    "ids": _ids,
    "places": _places,
    "messages": _messages,
    "tools": _tools,
}
assert all(len(json.dumps(KINDS[kind](0)[1])) < 520_000 for kind in KINDS)

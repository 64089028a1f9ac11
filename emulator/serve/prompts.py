"""Turn a request's messages or text into the tokens of a prompt."""

from __future__ import annotations

import json
from typing import Any

from emulator.chat.messages import SYSTEM_ROLES, Message
from emulator.chat.template import ChatFormat
from emulator.chat.tools import Call
from emulator.config import LlamaConfig
from emulator.serve.body import RequestError, refuse
from emulator.serve.shapes.atoms import Text
from emulator.serve.shapes.openai import PROMPTS, ChatMessage, Part, ToolCall

GOES_ON = "a conversation that ends with a user's or a tool's message, or an answer to go on with"


def read_messages(messages: list[ChatMessage], key: str) -> list[Message]:
    """The messages of a request.

    Raises RequestError for a call whose arguments are no JSON object, and for a last message that
    leaves nothing to answer.
    """
    read = [_message(entry, f"{key}[{i}]") for i, entry in enumerate(messages)]
    if read[-1].role in SYSTEM_ROLES:
        raise RequestError(f"{key} must be {GOES_ON}", param=key)
    if read[-1].calls:
        raise RequestError(f"{key}: the results of the last calls are missing", param=key)
    return read


def _message(entry: ChatMessage, where: str) -> Message:
    if entry.tool_calls and entry.role != "assistant":
        refuse(f"{where}.tool_calls", "absent from this role", entry.role)
    calls = [
        _call(call, f"{where}.tool_calls[{i}].function.arguments")
        for i, call in enumerate(entry.tool_calls or [])
    ]
    return Message(
        entry.role,
        text_of(entry.content),
        tuple(calls),
        entry.tool_call_id or "",
        entry.name or "",
    )


def text_of(content: str | list[Part] | None) -> str:
    if isinstance(content, list):
        return "\n".join(part.text for part in content)
    return content or ""


def _call(call: ToolCall, where: str) -> Call:
    arguments = call_arguments(call.function.arguments or "{}", where)
    return Call(call.function.name, arguments, call.id or "")


def call_arguments(text: str, where: str) -> dict[str, Any]:
    """The arguments of a call, sent as text. Raises RequestError for what is no JSON object."""
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        refuse(where, "a JSON object as text", text)
    return arguments


def text_tokens(chat: ChatFormat, text: str) -> list[int]:
    """The tokens of a text to continue, after those that start every sequence of the model."""
    return [*chat.begin(), *chat.encode(text)]


Prompt = Text | list[Text | int | list[int]]


def text_lengths(value: Prompt) -> list[int]:
    """Characters of each text of a prompt, or of prompts."""
    listed = value if isinstance(value, list) else [value]
    return [len(one) for one in listed if isinstance(one, str)]


def prompt_count(value: Prompt) -> int:
    """How many prompts `prompt_lists` makes of it."""
    return 1 if isinstance(value, str) or isinstance(value[0], int) else len(value)


def prompt_lists(chat: ChatFormat, config: LlamaConfig, value: Prompt, key: str) -> list[list[int]]:
    """Token lists of a text, texts, token ids, or lists of token ids.

    Raises RequestError for more than PROMPTS, a mixture, or an id outside the vocabulary.
    """
    is_ids = isinstance(value, list) and all(isinstance(one, int) for one in value)
    listed = value if isinstance(value, list) and not is_ids else [value]
    if len(listed) > PROMPTS:
        refuse(key, f"1 to {PROMPTS} prompts", value)
    prompts = []
    for one in listed:
        if isinstance(one, str):
            prompts.append(text_tokens(chat, one))
        elif isinstance(one, list) and one and all(isinstance(token, int) for token in one):
            ids = [token for token in one if isinstance(token, int)]
            if not all(0 <= token < config.vocabulary for token in ids):
                last = config.vocabulary - 1
                raise RequestError(f"{key}: token ids go from 0 to {last}", param=key)
            prompts.append(ids)
        else:
            refuse(key, "a text, a list of token ids, or a list of those", value)
    return prompts

"""Messages and texts of a request as the prompt's tokens."""

from __future__ import annotations

from dataclasses import dataclass

from emulator.chat.template import ChatFormat
from emulator.serve.body import BODY_BYTES, Body

MESSAGES = 1000  # in one request
SYSTEM_ROLES, ROLES = ("system", "developer"), ("user", "assistant")
PARTS = 100  # of one message


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    text: str


def read_messages(body: Body, key: str) -> list[Message]:
    """The messages of a request, each with a text; the last one is the user's.

    Raises RequestError for roles that no chat format here knows, and for anything but text.
    """
    messages = []
    for entry in body.objects(key, MESSAGES):
        role = entry.text("role", 20)
        if role not in (*SYSTEM_ROLES, *ROLES):
            entry.refuse("role", "system, developer, user or assistant")
        entry.lack("tool_calls", "this server knows no tools")
        messages.append(Message(role, _text_of(entry)))
    if messages[-1].role != "user":
        body.refuse(key, "a conversation whose last message is the user's")
    return messages


def _text_of(entry: Body) -> str:
    if not isinstance(entry.values.get("content"), list):
        return entry.text("content", BODY_BYTES)
    texts = []
    for part in entry.objects("content", PARTS):
        if part.text("type", 40, "text") != "text":
            part.refuse("type", "text: this model reads nothing else")
        texts.append(part.text("text", BODY_BYTES))
    return "\n".join(texts)


def text_tokens(chat: ChatFormat, text: str) -> list[int]:
    """The tokens of a text to go on with; it begins as the model's texts do."""
    return [*chat.begin(), *chat.encode(text)]


def chat_tokens(chat: ChatFormat, messages: list[Message]) -> list[int]:
    """Messages -> the prompt of the next answer.

    All system messages go before the first turn; neighbours of one role become one turn. An answer
    without a question follows an empty one.
    """
    system = [m.text for m in messages if m.role in SYSTEM_ROLES]
    turns: list[Message] = []
    for message in messages:
        if message.role in SYSTEM_ROLES:
            continue
        if turns and turns[-1].role == message.role:
            turns[-1] = Message(message.role, f"{turns[-1].text}\n\n{message.text}")
        else:
            turns.append(message)
    if turns[0].role == "assistant":
        turns.insert(0, Message("user", ""))
    tokens = chat.opening("\n\n".join(system) if system else None)
    for turn in turns:
        if turn.role == "user":
            tokens += chat.question(turn.text)
        else:
            tokens += [*chat.encode(turn.text), *chat.closing()]
    return tokens

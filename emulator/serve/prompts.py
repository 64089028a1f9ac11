"""Turn a request's messages or text into the tokens of a prompt."""

from __future__ import annotations

from emulator.chat.messages import ROLES, SYSTEM_ROLES, Message
from emulator.chat.template import ChatFormat
from emulator.serve.body import BODY_BYTES, Body

MESSAGES = 1000  # in one request
PARTS = 100  # of one message


def read_messages(body: Body, key: str) -> list[Message]:
    """Read the messages of a request.

    Raises RequestError for an unknown role, content other than text, or a last message that is not
    the user's.
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
    """The tokens of a text to continue, after those that start every sequence of the model."""
    return [*chat.begin(), *chat.encode(text)]

"""Messages of a conversation as the prompt of the next answer."""

from __future__ import annotations

from dataclasses import dataclass

from emulator.chat.template import ChatFormat

SYSTEM_ROLES, ROLES = ("system", "developer"), ("user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    role: str  # one of SYSTEM_ROLES or ROLES
    text: str


def chat_tokens(chat: ChatFormat, messages: list[Message]) -> list[int]:
    """Messages, at least one of them no system message -> the prompt of the next answer.

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

"""Turn the messages of a conversation into the prompt of the next answer."""

from __future__ import annotations

from dataclasses import dataclass

from emulator.chat.template import ChatFormat

SYSTEM_ROLES, ROLES = ("system", "developer"), ("user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    role: str  # one of SYSTEM_ROLES or ROLES
    text: str


def chat_tokens(chat: ChatFormat, messages: list[Message]) -> list[int]:
    """Messages -> tokens of the prompt; at least one message is not a system message.

    All system messages go where the format has them, which is before the first turn or in the first
    or last question. Consecutive messages of one role become one turn.
    If the first turn is an answer, an empty question goes before it.
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
    said = "\n\n".join(system) if system else None
    tokens = chat.opening(said)
    if said and chat.system_place != "opening":
        questions = [i for i, turn in enumerate(turns) if turn.role == "user"]
        place = questions[0 if chat.system_place == "first" else -1]
        turns[place] = Message("user", chat.with_system(said, turns[place].text))
    for turn in turns:
        if turn.role == "user":
            tokens += chat.question(turn.text)
        else:
            tokens += [*chat.answer(turn.text), *chat.closing()]
    return tokens

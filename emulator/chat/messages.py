"""Turn the messages of a conversation into the prompt of the next answer."""

from __future__ import annotations

from dataclasses import dataclass

from emulator.chat.template import ChatFormat
from emulator.chat.tools import TAGGED, Call, CallForm

SYSTEM_ROLES, ROLES = ("system", "developer"), ("user", "assistant")
TOOL = "tool"  # the role of a function's result


@dataclass(frozen=True, slots=True)
class Message:
    role: str  # one of SYSTEM_ROLES or ROLES, or TOOL
    text: str
    calls: tuple[Call, ...] = ()  # of an assistant
    call_id: str = ""  # of the call whose result this is
    name: str = ""  # of the function whose result this is


def chat_tokens(
    chat: ChatFormat, messages: list[Message], form: CallForm = TAGGED, more_system: str = ""
) -> list[int]:
    """Messages -> tokens of the prompt; at least one message is not a system message.

    All system messages go where the format has them, which is before the first turn or in the first
    or last question, `more_system` after them. Consecutive messages of one role become one turn.
    If the first turn is an answer, an empty question goes before it. If the last one is an answer,
    it stays open: the model goes on with it.
    """
    system = [m.text for m in messages if m.role in SYSTEM_ROLES]
    if more_system:
        default = getattr(chat, "default_system", None)
        system = [*(system or filter(None, [default])), more_system]
    turns: list[Message] = []
    for message in messages:
        if message.role in SYSTEM_ROLES:
            continue
        text = _with_calls(message, form)
        if turns and turns[-1].role == message.role:
            turns[-1] = Message(message.role, f"{turns[-1].text}\n\n{text}")
        else:
            turns.append(Message(message.role, text))
    if turns[0].role == "assistant":
        turns.insert(0, Message("user", ""))
    said = "\n\n".join(system) if system else None
    tokens = chat.opening(said)
    if said and chat.system_place != "opening":
        questions = [i for i, turn in enumerate(turns) if turn.role == "user"] or [0]
        place = questions[0 if chat.system_place == "first" else -1]
        turns[place] = Message("user", chat.with_system(said, turns[place].text))
    before = "assistant"
    for turn in turns:
        if turn.role == "assistant":
            tokens += chat.answer(turn.text)
            tokens += chat.closing() if turn is not turns[-1] else []
        else:  # after a question that had no answer, close the empty one
            tokens += chat.closing() if before != "assistant" else []
            tokens += chat.question(turn.text, turn.role)
        before = turn.role
    return tokens


def _with_calls(message: Message, form: CallForm) -> str:
    return "\n".join(filter(None, [message.text, *(form.text(call) for call in message.calls)]))

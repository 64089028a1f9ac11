"""A checkpoint's own chat template, rendered in a process that cannot harm this one.

A template is a program by whoever made the checkpoint. It runs in Jinja's immutable sandbox, in a
process of its own with limits on time, memory and output (`emulator.chat.template_worker`).
What users say never becomes a control token: a control token's text in a message is split by a
character that the message does not hold, and which goes away again before the text is encoded.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.chat.messages import Message
from emulator.chat.template import LLAMA3_DATE, ChatFormat
from emulator.chat.tools import Call, Tool
from emulator.errors import EmulatorError

CPU_SECONDS = 2  # of a rendering
WALL_SECONDS = 60.0  # the same on a busy machine, starting Python included
MOST_CHARACTERS = 1 << 20  # of what it renders
WORKER = "from emulator.chat.template_worker import main; main()"
MARKS = [chr(point) for point in range(0xFDD0, 0xFDF0)]  # no characters, by Unicode's own rule


class TemplateError(EmulatorError):
    """A chat template that raises, never ends, or reaches for what it must not."""


@dataclass(frozen=True, slots=True)
class JinjaTemplate:
    """The text of a template, and the texts of the tokens that it may name."""

    source: str
    bos: str = ""
    eos: str = ""
    cpu_seconds: int = CPU_SECONDS

    def render(self, values: Mapping[str, Any]) -> str:
        """The text that the template makes of `messages`, `tools` and the like.

        Raises TemplateError, with the template's own words if it raised.
        """
        order = {
            "template": self.source,
            "values": {"bos_token": self.bos, "eos_token": self.eos, **values},
            "today": LLAMA3_DATE.isoformat(),
            "cpu_seconds": self.cpu_seconds,
            "most_characters": MOST_CHARACTERS,
        }
        try:
            done = subprocess.run(
                [sys.executable, "-c", WORKER],
                input=json.dumps(order).encode(),
                capture_output=True,
                check=False,
                timeout=WALL_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise TemplateError(f"the chat template took more than {WALL_SECONDS:g} s") from None
        if done.returncode < 0:  # killed, by the limit on its time
            message = f"the chat template took more than {self.cpu_seconds} s or too much memory"
            raise TemplateError(message)
        try:
            told = json.loads(done.stdout)
        except ValueError:
            raise TemplateError("the chat template's process failed") from None
        if "error" in told:
            raise TemplateError(f"the chat template failed: {told['error']}")
        return str(told["text"])


def template_tokens(
    template: JinjaTemplate, chat: ChatFormat, messages: list[Message], tools: Sequence[Tool]
) -> list[int]:
    """The prompt of the next answer, as the template has it. Raises TemplateError.

    A last message of the assistant stays open: the model goes on with it.
    """
    prefill = ""
    if messages[-1].role == "assistant":
        *messages, last = messages
        prefill = last.text
    controls = {
        token.content: number
        for number, token in chat.tokenizer.get_added_tokens_decoder().items()
        if token.special
    }
    values = {
        "messages": [_message(message) for message in messages],
        "tools": [tool.to_json() for tool in tools] or None,
        "add_generation_prompt": True,
    }
    said = json.dumps(values, ensure_ascii=False)
    mark = next((mark for mark in MARKS if mark not in said), MARKS[0])
    pattern = re.compile(
        "|".join(sorted(map(re.escape, controls), key=len, reverse=True)) or "(?!)"
    )
    text = template.render(_split(values, pattern, mark))
    tokens: list[int] = []
    at = 0
    for found in [*pattern.finditer(text), None]:
        end = found.start() if found else len(text)
        tokens += chat.encode(text[at:end].replace(mark, ""))
        if found:
            tokens.append(controls[found[0]])
            at = found.end()
    return tokens + chat.encode(prefill)


def _message(message: Message) -> dict[str, Any]:
    """A message as templates of the hub expect it."""
    role = "system" if message.role == "developer" else message.role
    told: dict[str, Any] = {"role": role, "content": message.text}
    if message.calls:
        told["tool_calls"] = [_call(call) for call in message.calls]
    if message.call_id:
        told["tool_call_id"] = message.call_id
    if message.name:
        told["name"] = message.name
    return told


def _call(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": dict(call.arguments)}
    return {"id": call.id, "type": "function", "function": function}


def _split(value: Any, pattern: re.Pattern[str], mark: str) -> Any:
    """The same values with every control token's text split by `mark`."""
    if isinstance(value, str):
        return pattern.sub(lambda found: found[0][0] + mark + found[0][1:], value)
    if isinstance(value, Mapping):
        return {_split(k, pattern, mark): _split(v, pattern, mark) for k, v in value.items()}
    if isinstance(value, list):
        return [_split(one, pattern, mark) for one in value]
    return value

"""Functions that a model may call: how it is told of them, and how it writes a call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weights.chat_style import LLAMA3


@dataclass(frozen=True, slots=True)
class Tool:
    """A function of the client's; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As chat templates expect it."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
        }
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class Call:
    """A call that the model made; `id` ties the result to it."""

    name: str
    arguments: Mapping[str, Any]
    id: str = ""


@dataclass(frozen=True, slots=True)
class CallForm:
    """How a family of models writes a call: JSON with a name and arguments, between two texts."""

    begin: str
    end: str
    key: str  # of the arguments

    @property
    def mark(self) -> str:
        """The text by whose first characters a call is known."""
        return self.begin.strip() or '{"name": '

    def head(self, name: str) -> str:
        """The text of a call before its arguments."""
        return f"{self.begin}{{{json.dumps('name')}: {json.dumps(name)}, {json.dumps(self.key)}: "

    @property
    def tail(self) -> str:
        """The text of a call after its arguments."""
        return "}" + self.end

    def text(self, call: Call) -> str:
        """The call as the model would have written it."""
        return self.head(call.name) + _json(dict(call.arguments)) + self.tail

    def read(self, text: str) -> Call | None:
        """The call in an answer; None if it holds none, or only the beginning of one."""
        if not text.startswith(self.begin) or not text.endswith(self.end):
            return None
        try:
            value = json.loads(text[len(self.begin) : len(text) - len(self.end)])
            return Call(str(value["name"]), dict(value[self.key]))
        except (ValueError, LookupError, TypeError):
            return None


TAGGED = CallForm("<tool_call>\n", "\n</tool_call>", "arguments")  # Hermes, Qwen, SmolLM2 and 3
BARE = CallForm("", "", "parameters")  # Llama 3.1 and later


def call_form(style: str) -> CallForm:
    """The form of the models with this chat style."""
    return BARE if style == LLAMA3 else TAGGED


def knows_tools(template: str, form: CallForm) -> bool:
    """Whether a chat template tells of tools and writes calls in this form."""
    return "tools" in template and (form.begin.strip() or f'"{form.key}"') in template


def tools_text(tools: Sequence[Tool], form: CallForm) -> str:
    """Words for the system prompt of a model whose template does not speak of tools."""
    offers = "\n".join(_json(tool.to_json()["function"]) for tool in tools)
    example = form.text(Call("NAME", {"PARAMETER": "VALUE"}))
    return (
        f"You can call these functions:\n{offers}\n"
        f"To call one, answer with nothing but\n{example}\n"
        "The next message then holds its result. Use the result to answer."
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)

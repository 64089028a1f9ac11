"""Read a request's tools, and make the grammar that keeps a call to what was offered."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.chat.tools import CallForm, Tool
from emulator.serve.body import RequestError, refuse
from emulator.serve.grammar import Grammars
from emulator.serve.shapes.openai import ToolChoice, ToolOffer

NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
AUTO, NONE, REQUIRED = "auto", "none", "required"  # other choices name a tool


@dataclass(frozen=True, slots=True)
class Calling:
    """The tools of a request, and the form in which its answer may call one; None: not at all."""

    tools: tuple[Tool, ...] = ()
    form: CallForm | None = None
    grammar: str | None = None  # of the whole answer


def offered(offers: Sequence[ToolOffer] | None, key: str = "tools") -> list[Tool]:
    """The tools that a request offers. Raises RequestError for a name that is there twice."""
    tools: list[Tool] = []
    for i, offer in enumerate(offers or []):
        function = offer.function
        if function.name in {tool.name for tool in tools}:
            refuse(f"{key}[{i}].function.name", "a name of its own", function.name)
        tools.append(Tool(function.name, function.description or "", function.parameters or {}))
    return tools


def choice_of(value: str | ToolChoice | None) -> str:
    """`tool_choice` as AUTO, NONE, REQUIRED or a tool's name."""
    return value.function.name if isinstance(value, ToolChoice) else value or AUTO


def calling(
    tools: Sequence[Tool],
    choice: str,
    form: CallForm,
    grammars: Grammars,
    constraint: str | None,
    places: tuple[str, str] = ("tools[{}].function.parameters", "tool_choice"),
) -> Calling:
    """What an answer may call, and its grammar; `constraint` is that of its text.

    places: the fields that errors name, that of a tool's schema by its number.

    Raises RequestError for a choice that was not offered, a schema that is none, or a constraint
    on the text of an answer that may be a call.
    """
    schema_field, choice_field = places
    if not tools:
        if choice not in (AUTO, NONE):
            refuse(choice_field, "used with tools", choice)
        return Calling(grammar=constraint)
    names = [tool.name for tool in tools]
    if choice not in (AUTO, NONE, REQUIRED, *names):
        refuse(choice_field, f"{AUTO}, {NONE}, {REQUIRED} or one of the tools", choice)
    schemas = [
        _arguments(tool.parameters, schema_field.format(i), grammars)
        for i, tool in enumerate(tools)
    ]
    if choice == NONE:
        return Calling(tuple(tools), None, constraint or grammars.lark(_text_rule(form), "tools"))
    if constraint is not None:
        message = "a format of the text needs an answer that is no call: set it to none"
        raise RequestError(f"{choice_field}: {message}", param=choice_field)
    chosen = [i for i, name in enumerate(names) if choice in (AUTO, REQUIRED, name)]
    text = _call_rules(form, names, schemas, chosen, choice == AUTO)
    return Calling(tuple(tools), form, grammars.lark(text, "tools"))


def _arguments(schema: Mapping[str, Any], where: str, grammars: Grammars) -> str:
    """The schema of a call's arguments as JSON text: an object, without what is not declared."""
    whole = {**NOTHING, **schema} if schema else NOTHING
    if whole.get("type") != "object":
        refuse(f"{where}.type", "object", whole.get("type"))
    return grammars.checked_schema(whole, where)


def _text_rule(form: CallForm, rule: str = "start: TEXT") -> str:
    """Text that is no call, not even after spaces."""
    return f"{rule}\nTEXT: /(?s:.*)/ & ~/(?s:\\s*{_escaped(form.mark)}.*)/\n"


def _call_rules(
    form: CallForm, names: list[str], schemas: list[str], chosen: list[int], or_text: bool
) -> str:
    """A grammar in Lark's notation: one of the calls, or text."""
    start = " | ".join(f"call{i}" for i in chosen)
    spaces = "\\s*" if or_text else ""
    lines = [_text_rule(form, f"start: TEXT | {start}") if or_text else f"start: {start}"]
    for i in chosen:
        lines.append(f"call{i}: OPEN{i} arguments{i} CLOSE")
        lines.append(f"OPEN{i}: /{spaces}{_escaped(form.head(names[i]))}/")
        lines.append(f"arguments{i}: %json {schemas[i]}")
    lines.append(f"CLOSE: /{_escaped(form.tail)}/")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """A regular expression, between slashes, that matches this text alone."""
    return re.escape(text).replace("\\\n", "\\n").replace("/", "\\/")

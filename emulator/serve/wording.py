"""Say in our words what msgspec found wrong with a body: the field, what it must be, its value.

msgspec gives a path and a type ("Expected `int` <= 8 - at `$.n`"). The words come from the schema
at that path, which comes from the same declaration as the check.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

Schema = dict[str, Any]
PLACE = re.compile(r" - at `(?:key in )?\$?(.*)`$")
STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
ANYTHING = "something else"  # where the schema says nothing
MISSING = re.compile(r"missing required field `(.+?)`")


def told(problem: str, values: Mapping[str, Any], kind: type) -> tuple[str, str, Any]:
    """(name of the field, what it must be, the value it has) for a message of msgspec.

    An entry of a list of plain values goes by the list's name, an object in a list by its index.
    """
    found = PLACE.search(problem)
    steps = [key or index for key, index in STEP.findall(found[1] if found else "")]
    if missing := MISSING.search(problem):
        steps.append(missing[1])
    whole = schema_of(kind)
    name, node, value = "", whole, values
    for at, step in enumerate(steps):
        inner, inside = _below(node, step, whole), _value(value, step)
        last_of_list = at == len(steps) - 1 and (step.isdigit() or step == "...")
        if last_of_list and not _is_object(inner, whole):
            return name, _in_words(node, whole), inside if step.isdigit() else value
        name += f"[{step}]" if step.isdigit() else f".{step}" if name else step
        node, value = inner, inside
    return name, _in_words(node, whole), value


@cache
def schema_of(kind: type) -> Schema:
    """The JSON schema of a declared body, with its parts in `$defs`."""
    return msgspec.json.schema(kind)


def _value(value: Any, step: str) -> Any:
    if isinstance(value, list) and step.isdigit():
        return value[int(step)]
    return value.get(step) if isinstance(value, Mapping) else None


def _branches(node: Schema, whole: Schema) -> list[Schema]:
    """The alternatives of a schema, references followed, null left out."""
    if "$ref" in node:
        node = whole["$defs"][node["$ref"].rpartition("/")[2]]
    if "anyOf" not in node:
        return [] if node.get("type") == "null" else [node]
    return [one for part in node["anyOf"] for one in _branches(part, whole)]


def _below(node: Schema, step: str, whole: Schema) -> Schema:
    for one in _branches(node, whole):
        if step in one.get("properties", {}):
            return dict(one["properties"][step])
        if step.isdigit() and "items" in one:
            return dict(one["items"])
        if isinstance(one.get("additionalProperties"), dict):
            return dict(one["additionalProperties"])
    return {}


def _is_object(node: Schema, whole: Schema) -> bool:
    return any(one.get("type") == "object" for one in _branches(node, whole))


def _in_words(node: Schema, whole: Schema) -> str:
    """What a schema accepts: "a whole number from 1 to 8", "a text or a list of at most 16 .."."""
    words = [_one(branch, whole) for branch in _branches(node, whole)]
    return " or ".join(dict.fromkeys(words)) or ANYTHING


def _one(node: Schema, whole: Schema) -> str:
    if "enum" in node:
        *others, last = [str(one) for one in node["enum"] if one is not None]
        return f"{', '.join(others)} or {last}" if others else last
    kind, inner = str(node.get("type")), ""
    if kind == "array":
        inner = _in_words(node.get("items", {}), whole)
        bounds = _bounds(node, "minItems", "maxItems")
        return f"a list{bounds and ' of' + bounds}, each {inner}"
    if kind == "string" and "pattern" in node:
        return f"a text that matches {node['pattern']}"
    if kind == "string":
        bounds = _bounds(node, "minLength", "maxLength")
        return f"a text{bounds and f' of{bounds} characters'}"
    if kind == "object" and isinstance(node.get("additionalProperties"), dict):
        inner = _in_words(node["additionalProperties"], whole)
    named = {
        "boolean": "true or false",
        "object": f"an object of values, each {inner}"
        if inner not in ("", ANYTHING)
        else "an object",
        "integer": "a whole number" + _bounds(node, "minimum", "maximum", "from"),
        "number": "a number" + _bounds(node, "minimum", "maximum", "from"),
    }
    return named.get(kind, ANYTHING)


def _bounds(node: Schema, least: str, most: str, word: str = "") -> str:
    """ " from 1 to 8" for numbers, " 1 to 8" for sizes; empty without bounds."""
    low, high = node.get(least), node.get(most)
    if low is not None and high is not None:
        return f" {word} {_number(low)} to {_number(high)}".replace("  ", " ")
    if high is not None:
        return f" at most {_number(high)}"
    return f" at least {_number(low)}" if low is not None else ""


def _number(value: float) -> str:
    """2 for 2.0: what a field takes does not depend on how its bound was written."""
    return f"{int(value):,}" if value == int(value) else f"{value:g}"

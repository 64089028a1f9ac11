"""Render one chat template in this process, which then ends: an order in, a text or an error out.

Nothing of the project is imported here, so that little can be reached from within.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import date
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY_BYTES = 1 << 30
# What a template may call on texts, lists and dictionaries. Nothing else has attributes at all.
METHODS = {
    *("capitalize", "count", "endswith", "find", "join", "lower", "lstrip", "replace", "rsplit"),
    *("rstrip", "split", "splitlines", "startswith", "strip", "title", "upper"),
    *("get", "items", "keys", "values", "index"),
}


class Generation(Extension):
    """The tag {% generation %}, by which some templates mark what a model is trained on."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, with attributes of plain values only."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        plain = isinstance(obj, str | list | dict | tuple)
        loop = type(obj).__module__.startswith("jinja2.")  # loop, namespace, cycler
        named = not attr.startswith("_") and (loop or (plain and attr in METHODS))
        return named and super().is_safe_attribute(obj, attr, value)

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        """Say so at once; by default such an attribute prints as nothing."""
        raise SecurityError(f"{attribute!r} of {type(obj).__name__}")


def main() -> None:
    """Read an order from standard input, answer on standard output."""
    order = json.loads(sys.stdin.buffer.read())
    _limit(int(order["cpu_seconds"]))
    try:
        told = {"text": rendered(order)}
    except MemoryError:
        told = {"error": "it took too much memory"}
    except SecurityError as error:
        told = {"error": f"it may not do that: {error}"}
    except TemplateError as error:
        told = {"error": str(error)}
    except Exception as error:  # a template's own mistake, such as a text plus a number
        told = {"error": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(told))


def rendered(order: dict[str, Any]) -> str:
    """The template's text. Raises what the template raises, and TemplateError if it is too long."""
    environment = Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )
    today = date.fromisoformat(order["today"])
    environment.filters["tojson"] = _json
    environment.globals |= {"raise_exception": _raise, "strftime_now": _dated(today)}
    pieces, length = [], 0
    for piece in environment.from_string(order["template"]).generate(order["values"]):
        pieces.append(piece)
        length += len(piece)
        if length > order["most_characters"]:
            raise TemplateError(f"it gave more than {order['most_characters']:,} characters")
    return "".join(pieces)


def _json(value: Any, indent: int | None = None, **_: Any) -> str:
    """JSON as the hub's templates are written for: not escaped for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise TemplateError(str(message))


def _dated(today: date) -> Callable[[str], str]:
    return today.strftime


def _limit(cpu_seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: the wall clock alone
        return
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


if __name__ == "__main__":
    main()

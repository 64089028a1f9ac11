"""Read a request's JSON body within limits, and check every field. A bad one is never a 5xx."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from emulator.errors import EmulatorError
from emulator.fields import is_real, is_whole, shown

BODY_BYTES = 512 << 10  # a full context in escaped JSON is far smaller
READ_BYTES = 8 << 20  # at most read before a body is refused; BODY_BYTES of them are kept
BODY_SECONDS = 30.0  # limit for the whole body to arrive


class RequestError(EmulatorError):
    """A refused request, with HTTP status, the field, a code for programs, and headers."""

    def __init__(
        self,
        message: str,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.headers = status, param, code, headers


class NotJsonError(RequestError):
    """The body is not JSON at all."""


async def read_body(request: Request) -> Body:
    """Read the JSON object in a request's body.

    Raises RequestError: 413 above BODY_BYTES, whatever the headers promise, 408 after
    BODY_SECONDS, 400 for anything but one JSON object with finite numbers.
    """
    try:
        raw = await asyncio.wait_for(_read(request), BODY_SECONDS)
    except asyncio.TimeoutError:
        message = f"the body took more than {BODY_SECONDS:g} s"
        raise RequestError(message, 408, headers={"connection": "close"}) from None
    except ClientDisconnect:
        raise RequestError("the client went away in the middle of the body", 400) from None
    return parse_body(raw)


async def _read(request: Request) -> bytes:
    """Read the body and keep at most BODY_BYTES.

    A body up to READ_BYTES is read to its end, since a client that is cut off while it sends may
    never see the answer.
    """
    promised = request.headers.get("content-length", "")
    size = int(promised) if promised.isdecimal() and len(promised) < 20 else 0
    raw, read = bytearray(), 0
    if size <= READ_BYTES:
        async for part in request.stream():
            read += len(part)
            if read <= BODY_BYTES:
                raw += part
            if read > READ_BYTES:
                break
    if max(size, read) > BODY_BYTES:
        message = f"a body has at most {BODY_BYTES:,} bytes"
        raise RequestError(message, 413, headers={"connection": "close"})
    return bytes(raw)


def parse_body(raw: bytes) -> Body:
    """Parse the bytes of a body. Raises NotJsonError or RequestError, status 400."""
    try:
        values = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        raise NotJsonError(f"the body is not JSON: {problem}") from None
    if not isinstance(values, dict):
        raise RequestError("the body must be a JSON object")
    return Body(values)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


@dataclass(frozen=True, slots=True)
class Body:
    """Fields by name. Getters return the default for a missing or null field.

    They raise RequestError, naming the field, for a value of wrong type or range.
    """

    values: Mapping[str, Any]
    inside: str = ""  # "stream_options."

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def whole(self, key: str, least: int, most: int, default: int) -> int:
        """A whole number from `least` to `most`."""
        value = self.values.get(key)
        if value is None:
            return default
        if not is_whole(value) or not least <= value <= most:
            self.refuse(key, f"a whole number from {least} to {most}")
        return int(value)

    def real(self, key: str, least: float, most: float, default: float) -> float:
        """A finite number from `least` to `most`."""
        value = self.values.get(key)
        if value is None:
            return default
        if not is_real(value) or not least <= value <= most:
            self.refuse(key, f"a number from {least:g} to {most:g}")
        return float(value)

    def truth(self, key: str) -> bool:
        """true or false; false when it is missing."""
        value = self.values.get(key)
        if not isinstance(value, bool | None):
            self.refuse(key, "true or false")
        return bool(value)

    def text(self, key: str, most: int, default: str = "") -> str:
        """A string of at most `most` characters."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, str) or len(value) > most:
            self.refuse(key, f"a text of at most {most:,} characters")
        return value

    def texts(self, key: str, count: int, most: int) -> tuple[str, ...]:
        """A string or a list of up to `count`, each not empty and of at most `most` characters."""
        value = self.values.get(key)
        listed = [value] if isinstance(value, str) else [] if value is None else value
        if not isinstance(listed, list) or len(listed) > count:
            self.refuse(key, f"a text, or a list of at most {count}")
        for text in listed:
            if not isinstance(text, str) or not 0 < len(text) <= most:
                self.refuse(key, f"texts of 1 to {most} characters")
        return tuple(listed)

    def object(self, key: str) -> Body:
        """An object; an empty one when it is missing."""
        value = self.values.get(key)
        if not isinstance(value, dict | None):
            self.refuse(key, "an object")
        return Body(value or {}, f"{self.inside}{key}.")

    def objects(self, key: str, count: int) -> list[Body]:
        """A list of 1 to `count` objects."""
        value = self.values.get(key)
        if not isinstance(value, list) or not 0 < len(value) <= count:
            self.refuse(key, f"a list of 1 to {count:,} objects")
        for i, entry in enumerate(value):
            if not isinstance(entry, dict):
                self.refuse(f"{key}[{i}]", "an object")
        return [Body(entry, f"{self.inside}{key}[{i}].") for i, entry in enumerate(value)]

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Raise RequestError: `key` must be `expected`."""
        raise RequestError(
            f"{self.inside}{key} must be {expected}, not {shown(self.values.get(key))}",
            param=f"{self.inside}{key}",
        )

    def lack(self, key: str, reason: str) -> None:
        """Raise RequestError if an unsupported field is set to anything but false, 0 or empty."""
        if self.values.get(key) not in (None, False, 0, "", [], {}):
            name = f"{self.inside}{key}"
            raise RequestError(f"{name}: {reason}", param=name, code="unsupported_parameter")

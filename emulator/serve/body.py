"""Read a request's JSON body within limits, and check it. A bad one is never a 5xx."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping
from typing import Any, NoReturn, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from emulator.errors import EmulatorError
from emulator.fields import shown
from emulator.serve.wording import told

T = TypeVar("T")

BODY_BYTES = 512 << 10  # a full context in escaped JSON is far smaller
READ_BYTES = 16 << 20  # at most read before a body is refused; BODY_BYTES of them are kept
BODY_SECONDS = 30.0  # limit for the whole body to arrive
GONE = 499  # the log's status for a client that went away


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


async def read(request: Request, kind: type[T]) -> T:
    """Read a request's body as `kind`. Raises RequestError as `read_body` and `checked` do."""
    return checked(await read_body(request), kind)


async def read_body(request: Request) -> dict[str, Any]:
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
    request.scope["hardwired.bytes"] = len(raw)
    return parse_body(raw)


def body_bytes(request: Request) -> int:
    """Length of the body that was read."""
    return int(request.scope.get("hardwired.bytes", 0))


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`. If the client disconnects, cancel it; raise RequestError 499."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise RequestError("the client went away", GONE)
    finally:
        task.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


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


def parse_body(raw: bytes) -> dict[str, Any]:
    """Parse the bytes of a body. Raises NotJsonError or RequestError, status 400.

    A lone surrogate, which JSON can write but nothing can send or encode, becomes "?" everywhere.
    """
    try:
        values = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
        if b"\\ud" in raw.lower():
            text = json.dumps(values, ensure_ascii=False)
            values = json.loads(text.encode("utf-8", "replace"))
    except (ValueError, RecursionError) as problem:
        raise NotJsonError(f"the body is not JSON: {problem}") from None
    if not isinstance(values, dict):
        raise RequestError("the body must be a JSON object")
    return values


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def checked(values: Mapping[str, Any], kind: type[T]) -> T:
    """The fields of a body as `kind` declares them. Raises RequestError that names the field."""
    lack(values, getattr(kind, "refused", {}))
    try:
        return msgspec.convert(values, kind)
    except (msgspec.ValidationError, ValueError, OverflowError) as problem:
        raise explained(str(problem), values, kind) from None


def lack(values: Mapping[str, Any], refused: Mapping[str, str]) -> None:
    """Raise RequestError if a field of `refused` is set to anything but false, 0 or empty."""
    for name, reason in refused.items():
        if values.get(name) not in (None, False, 0, "", [], {}):
            raise RequestError(f"{name}: {reason}", param=name, code="unsupported_parameter")


def explained(problem: str, values: Mapping[str, Any], kind: type) -> RequestError:
    """A RequestError with the words of `wording` for what msgspec found."""
    name, expected, value = told(problem, values, kind)
    if not name:
        return RequestError(f"the body must be {expected}, not {shown(value)}")
    return RequestError(f"{name} must be {expected}, not {shown(value)}", param=name)


def refuse(name: str, expected: str, value: object) -> NoReturn:
    """Raise RequestError: the field `name` must be `expected`."""
    raise RequestError(f"{name} must be {expected}, not {shown(value)}", param=name)

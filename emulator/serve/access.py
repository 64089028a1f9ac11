"""Around every request: access control, the request log, and a time limit for slow readers."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emulator.serve.body import RequestError
from emulator.serve.hosts import Hosts
from emulator.serve.replies import error_object

LOG = logging.getLogger("emulator.serve.requests")
OPEN = ("/", "/health", "/page/")  # paths that need no key; "/page/" with all below it
SEND_SECONDS = 60.0  # that a client may take to read what was sent
GONE = 499
NO_KEY_HEADERS = {"www-authenticate": "Bearer"}


def note(request: Request, facts: Callable[[], dict[str, Any]]) -> None:
    """Add `facts()` to this request's log line; it is called when the line is written."""
    request.scope["hardwired.facts"] = facts


def log_slow_sender() -> None:
    """Log a request whose headers never ended: it has no method and no route yet."""
    line = {"time": round(time.time(), 3), "id": secrets.token_hex(8), "route": "none"}
    LOG.info(json.dumps(line | {"status": 408, "slow_sender": True}))


class Gate:
    """The outermost layer: checks access, and logs one JSON object for each request.

    The log holds numbers and names of routes, never a prompt, an answer, a key, or a path that a
    client made up.
    """

    def __init__(
        self, app: ASGIApp, api_key: str | None, hosts: Hosts, count: Callable[[str, int], None]
    ) -> None:
        self._app, self._hosts, self._count = app, hosts, count
        self._key = api_key.encode("utf-8", "surrogateescape") if api_key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, ident = time.monotonic(), secrets.token_hex(8)
        seen: dict[str, Any] = {"status": 0, "slow": False}

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", ident.encode())]
            try:
                await asyncio.wait_for(send(message), SEND_SECONDS)
            except asyncio.TimeoutError:
                seen["slow"] = True
                raise

        error = None
        try:
            app = _refusal(refused) if (refused := self._refused(scope)) else self._app
            await app(scope, receive, watched)
        except Exception as problem:
            if not seen["slow"]:
                error = type(problem).__name__
                seen["status"] = seen["status"] or 500
                raise
        finally:
            status = GONE if seen["slow"] else seen["status"] or GONE
            self._write(scope, ident, status, time.monotonic() - begin, error, seen["slow"])

    def _refused(self, scope: Scope) -> RequestError | None:
        """The reason to refuse this request, or None."""
        try:
            self._hosts.check(scope)
        except RequestError as error:
            return error
        path = scope["path"]
        if self._key is None or path in OPEN or path.startswith(OPEN[-1]):
            return None
        headers = dict(scope["headers"])
        kind, _, key = headers.get(b"authorization", b"").partition(b" ")
        key = key if kind.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        if hmac.compare_digest(key.strip(), self._key):
            return None
        message = "a valid API key is needed: Authorization: Bearer ..., or x-api-key"
        return RequestError(message, 401, code="invalid_api_key", headers=NO_KEY_HEADERS)

    def _write(
        self, scope: Scope, ident: str, status: int, seconds: float, error: str | None, slow: bool
    ) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self._count(route, status)
        line = {
            "time": round(time.time(), 3),
            "id": ident,
            "method": scope["method"][:10],
            "route": route,
            "status": status,
            "seconds": round(seconds, 4),
        }
        line |= scope["hardwired.facts"]() if "hardwired.facts" in scope else {}
        line |= {"error": error} if error else {}
        line |= {"slow_reader": True} if slow else {}
        LOG.info(json.dumps(line))


def _refusal(error: RequestError) -> ASGIApp:
    return JSONResponse(error_object(error), error.status, error.headers)

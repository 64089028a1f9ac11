"""Around every request: who may ask, what the log says, and how long a slow reader is borne."""

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
from emulator.serve.replies import error_object

LOG = logging.getLogger("emulator.serve.requests")
OPEN = ("/", "/health", "/page/")  # that need no key; "/page/" with all below it
SEND_SECONDS = 60.0  # that a client may take to read what is on its way
GONE = 499


def note(request: Request, facts: Callable[[], dict[str, Any]]) -> None:
    """Have the log's line of this request hold `facts`, asked when it is written."""
    request.scope["hardwired.facts"] = facts


class Gate:
    """The outermost layer. The log has one JSON object a request: numbers and names of routes,
    never a prompt, an answer, a key, or a path that a client made up."""

    def __init__(self, app: ASGIApp, api_key: str | None, count: Callable[[str, int], None]):
        self._app, self._count = app, count
        self._key = api_key.encode() if api_key else None

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
            app = self._app if self._may_ask(scope) else _no_key
            await app(scope, receive, watched)
        except Exception as problem:
            if not seen["slow"]:
                error = type(problem).__name__
                seen["status"] = seen["status"] or 500
                raise
        finally:
            status = GONE if seen["slow"] else seen["status"] or GONE
            self._write(scope, ident, status, time.monotonic() - begin, error, seen["slow"])

    def _may_ask(self, scope: Scope) -> bool:
        path = scope["path"]
        if self._key is None or path in OPEN or path.startswith(OPEN[-1]):
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        kind, _, key = given.partition(b" ")
        return kind.lower() == b"bearer" and hmac.compare_digest(key.strip(), self._key)

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


async def _no_key(scope: Scope, receive: Receive, send: Send) -> None:
    error = RequestError("a valid API key is needed: Authorization: Bearer ...", 401)
    error.code = "invalid_api_key"
    reply = JSONResponse(error_object(error), 401, {"www-authenticate": "Bearer"})
    await reply(scope, receive, send)

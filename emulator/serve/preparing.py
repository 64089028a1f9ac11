"""Where requests are read: away from the event loop, and the long ones one at a time.

Short texts are read at once. A long text or a grammar may keep a core for seconds, so those wait
for one another in a line of their own, in which each client has one place at a time.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import Request

from emulator.serve.body import RequestError, body_bytes, unless_gone

T = TypeVar("T")

SHORT_BYTES = 16 << 10  # of a body: its text is read in some 20 ms
WAITING = 16  # requests of one client that may wait to be read
GRAMMARS = ("guided_json", "guided_regex", "response_format", "tools", "format", "text")


class Preparations:
    """Two lanes for the work that comes before the queue; used from one event loop."""

    def __init__(self) -> None:
        self._long = ThreadPoolExecutor(1, "reader")
        self._turns: dict[str, asyncio.Lock] = {}  # of clients that wait or are read
        self._waiting: dict[str, int] = {}

    async def run(self, request: Request, body: object, work: Callable[..., T], *args: Any) -> T:
        """`work(*args)` in a thread, when it is its turn.

        Raises what it raises, and RequestError: 429 for a client with WAITING others, 499 for one
        that went away.
        """
        if body_bytes(request) <= SHORT_BYTES and not any(
            getattr(body, name, None) for name in GRAMMARS
        ):
            return await asyncio.to_thread(work, *args)
        return await unless_gone(request, self._in_turn(client_of(request), work, *args))

    async def _in_turn(self, client: str, work: Callable[..., T], *args: Any) -> T:
        waiting = self._waiting.get(client, 0)
        if waiting >= WAITING:
            message = f"{waiting} long requests of yours wait to be read"
            raise RequestError(message, 429, code="queue_full", headers={"retry-after": "2"})
        turn = self._turns.setdefault(client, asyncio.Lock())
        self._waiting[client] = waiting + 1
        try:
            async with turn:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._long, work, *args)
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client], self._turns[client]


def client_of(request: Request) -> str:
    """Who asks: the address, of IPv6 its network, since a computer has many there."""
    if request.client is None:
        return "unknown"
    host = request.client.host
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(address), 64), strict=False))
    return str(address)

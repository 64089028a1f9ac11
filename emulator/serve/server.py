"""uvicorn around the application: sockets, patience with clients, and an end in good order."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from emulator.errors import UsageError
from emulator.serve.engine import Engine

HEADER_SECONDS = 20.0  # from a connection to the end of its first request's headers
KEEP_ALIVE_SECONDS = 30
BACKLOG = 2048
FILES = 65_536  # connections are files


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that closes connections which never say what they want."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(HEADER_SECONDS, self._lose_patience)

    def _lose_patience(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.abort()


class Server(uvicorn.Server):
    """A server whose engine stops taking jobs as soon as it is asked to end."""

    def __init__(self, config: uvicorn.Config, engine: Engine) -> None:
        super().__init__(config)
        self._engine = engine

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """What waits is refused at once; the answer in hand is finished."""
        self._engine.drain()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UsageError when the address cannot be had."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)  # who comes before the chip is ready waits
    except (OSError, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--host {host} --port {port}: {reason}") from None
    return listener


def run(app: ASGIApp, engine: Engine, listener: socket.socket, patience: float) -> None:
    """Serve until SIGINT or SIGTERM."""
    _raise_file_limit()
    _log_to_stderr()
    config: dict[str, Any] = {
        "http": PatientProtocol,
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "backlog": BACKLOG,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": int(patience),
    }
    Server(uvicorn.Config(app, **config), engine).run(sockets=[listener])


def _log_to_stderr() -> None:
    """Requests as JSON objects, a line each; warnings and faults as text."""
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(logging.Formatter("%(message)s"))
    for name, level in (("emulator.serve", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.addHandler(lines)
        logger.propagate = False


def _raise_file_limit() -> None:
    """As many open connections as the system lets a process have."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))

"""uvicorn around the application: sockets, time limits for clients, and a clean shutdown."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import socket
import sys
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from emulator.errors import UsageError
from emulator.serve import access
from emulator.serve.engine import Engine

HEADER_SECONDS = 20.0  # from a connection, or a request's first byte, to the end of its headers
KEEP_ALIVE_SECONDS = 30
BACKLOG = 2048
ACCEPTS = 64  # connections taken at once, before the first of them can be refused
OWN_FILES = 64  # of the server itself
FILES = 65_536  # connections are files
LOG = logging.getLogger("emulator.serve")
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that disconnects a client which stalls.

    It may stall in a request's head, in a body whose reader has given up, or while it reads an
    answer.
    """

    most_connections = FILES  # of the whole server
    was_full = False  # whether that was logged
    _receive_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            if not PatientProtocol.was_full:
                PatientProtocol.was_full = True
                LOG.warning(
                    "more than %d connections: the newest are closed", self.most_connections
                )
            transport.abort()
            return
        self._set_receive_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._set_receive_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._set_receive_timer()
        if self.transport.is_closing():  # closing waits until the client has read the last byte
            self.loop.call_later(access.SEND_SECONDS, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.loop.call_later(access.SEND_SECONDS, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        patience = access.SEND_SECONDS + 1  # the application times out first, and logs it
        self._send_timer = self.loop.call_later(patience, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._receive_timer, self._send_timer):
            if timer is not None:
                timer.cancel()

    def _set_receive_timer(self) -> None:
        """Run the timer while only the client can go on; bytes that drip in do not restart it."""
        if not self._waits_for_client():
            if self._receive_timer is not None:
                self._receive_timer.cancel()
            self._receive_timer = None
        elif self._receive_timer is None:
            self._receive_timer = self.loop.call_later(HEADER_SECONDS, self._receive_timed_out)

    def _waits_for_client(self) -> bool:
        """Whether the next step is the client's: to send a request, or the rest of one."""
        if self.cycle is not None and not self.cycle.response_complete:
            return False  # read_body has its own limit
        if self.conn.their_state is h11.IDLE:
            return self.cycle is None or bool(self.conn.trailing_data[0])
        return self.conn.their_state is h11.SEND_BODY

    def _receive_timed_out(self) -> None:
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:  # half a head
            self.transport.write(TOO_SLOW)
            access.log_slow_sender()
        self.transport.abort()


class Server(uvicorn.Server):
    """A server whose engine stops taking jobs as soon as it is asked to end."""

    def __init__(self, config: uvicorn.Config, engine: Engine) -> None:
        super().__init__(config)
        self._engine = engine
        engine.on_death = self._end

    def _end(self) -> None:
        """No chip is left to serve: end as on SIGTERM."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse waiting requests at once; finish the current answer."""
        self._engine.drain()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket. Raises UsageError if the address cannot be used."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)  # early clients wait until the chip is ready
    except (OSError, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--host {host} --port {port}: {reason}") from None
    return listener


def run(app: ASGIApp, engine: Engine, listener: socket.socket, patience: float) -> int:
    """Serve until SIGINT or SIGTERM; the exit status, 1 if the chip's thread died."""
    faulthandler.enable()  # a signal of the system, as SIGBUS, leaves a word
    files = _raise_file_limit()
    PatientProtocol.most_connections = max(files - OWN_FILES - 2 * ACCEPTS, files // 4)
    _log_to_stderr()
    config: dict[str, Any] = {
        "http": PatientProtocol,
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "backlog": ACCEPTS,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": int(patience),
    }
    server = Server(uvicorn.Config(app, **config), engine)
    server.run(sockets=[listener])
    return int(engine.died or not server.started)


def _log_to_stderr() -> None:
    """Log requests as one JSON object per line, warnings and errors as text."""
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(logging.Formatter("%(message)s"))
    for name, level in (("emulator.serve", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.addHandler(lines)
        logger.propagate = False


def _raise_file_limit() -> int:
    """Allow as many open connections as the system permits, up to FILES; how many files."""
    try:
        import resource
    except ImportError:  # Windows
        return FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(soft, most)

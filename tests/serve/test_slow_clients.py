"""Clients that drip a request or never read an answer are hung up on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

import pytest

from emulator.serve import access, body
from emulator.serve.hosts import Hosts
from tests.support.serve_process import MESSAGES, head, serving, until

PATH = "/v1/chat/completions"


HASTE = """
import socket
from emulator.serve import access, body, server

def listen(*address, whole=server.listen):
    listener = whole(*address)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # its connections', too
    return listener

server.listen = listen
body.BODY_SECONDS = server.HEADER_SECONDS = access.SEND_SECONDS = 0.5
"""


@pytest.fixture(scope="module")
def hasty(served_image):
    """A server whose patience lasts half a second, and with little room between it and us."""
    with serving(served_image, before=HASTE) as server:
        yield server


def drip(connection: socket.socket, text: bytes) -> bytes:
    """A byte now and then, never silent for long; everything that came back until it hung up."""
    came = b""
    connection.settimeout(0.05)
    for byte in text * 200:
        with contextlib.suppress(OSError):
            connection.sendall(bytes([byte]))
        try:
            part = connection.recv(4096)
        except TimeoutError:
            continue
        except ConnectionResetError:
            return came
        if not part:
            return came
        came += part
    raise AssertionError("it was never hung up on")


WHOLE = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = head(PATH, 1).replace(b"Content-Length: 1", b"Transfer-Encoding: chunked")
SLOW = {
    "a head": (b"GET /health HTTP/1.1\r\n", b"x", 408),
    "a head from its first byte": (b"", b"x", 408),
    "a second head": (WHOLE + b"GET", b"x", 408),
    "a body": (head(PATH, 5000), b"x", 408),
    "chunks": (CHUNKED, b"1\r\nx\r\n", 408),
    "a body that no route reads": (head("/nowhere", 5000), b"x", 404),
    "a body of what is refused": (head(PATH, 5000).replace(b"local", b"evil."), b"x", 403),
}


@pytest.mark.parametrize("name", SLOW)
def test_who_drips_is_given_up(hasty, name):
    """Though bytes keep coming, and on a connection that has been used before, too."""
    beginning, more, status = SLOW[name]
    logged = len(hasty.log())
    with hasty.connect() as connection:
        connection.sendall(beginning)
        assert b"HTTP/1.1 %d " % status in drip(connection, more)
    until(lambda: any(line["status"] == status for line in hasty.log()[logged:]))
    assert hasty.chat(max_tokens=3)["usage"]["completion_tokens"] == 3


def test_who_says_nothing_at_all_is_given_up(hasty):
    with hasty.connect() as connection:
        connection.settimeout(5)
        assert connection.recv(100) == b""


@pytest.mark.parametrize("end", [b"", b"Connection: close\r\n"])
def test_who_asks_and_never_reads_is_given_up(hasty, end):
    """Whether the answer fits into the buffers between or not, no connection is left over."""
    until(lambda: hasty.metric("chip_busy") == 0)
    before = hasty.files()
    ask = WHOLE.replace(b"/v1/models", b"/openapi.json").replace(b"\r\n\r\n", b"\r\n" + end)
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.connect(("127.0.0.1", hasty.port))
            with contextlib.suppress(OSError):
                connection.sendall((ask + b"\r\n") * 1000)
        until(lambda: hasty.files() <= before)


def test_who_never_reads_a_stream_is_given_up_and_logged(hasty):
    body = {"messages": MESSAGES, "n": 8, "stream": True, "logprobs": True, "top_logprobs": 20}
    raw = json.dumps({**body, "max_tokens": 200, "ignore_eos": True}).encode()
    before = hasty.files()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect(("127.0.0.1", hasty.port))
        connection.sendall(head(PATH, len(raw)) + raw)
        until(lambda: any(line.get("slow_reader") for line in hasty.log()))
        until(lambda: hasty.files() <= before)
    assert "Traceback" not in "".join(hasty.lines)


def test_a_body_that_never_ends_is_given_up(monkeypatch):
    from starlette.requests import Request

    monkeypatch.setattr(body, "BODY_SECONDS", 0.05)
    scope = {"type": "http", "headers": [], "method": "POST", "path": "/"}
    with pytest.raises(body.RequestError) as caught:
        asyncio.run(body.read_body(Request(scope, lambda: asyncio.sleep(60))))
    assert caught.value.status == 408


def test_a_reader_who_never_reads_is_given_up(monkeypatch, caplog):
    """The application ends, what it holds is freed, and the log names the reason."""
    monkeypatch.setattr(access, "SEND_SECONDS", 0.05)
    freed, counted = [], []

    async def application(scope, receive, send):
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        finally:
            freed.append(True)

    async def never(message=None):
        await asyncio.sleep(60)

    hosts = Hosts("127.0.0.1", "127.0.0.1", [])
    gate = access.Gate(application, None, hosts, lambda route, status: counted.append(status))
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with caplog.at_level("INFO", "emulator.serve.requests"):
        asyncio.run(gate(scope, never, never))
    assert freed
    assert counted == [499]
    assert json.loads(caplog.messages[-1])["slow_reader"] is True

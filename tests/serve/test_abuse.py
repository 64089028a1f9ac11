"""What rude, broken and vanished clients do hurts nobody else, and the log says what happened."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

import pytest

from emulator.serve import access, body
from emulator.serve.hosts import Hosts
from tests.support.serve_process import MESSAGES, httpx, serving, until

PATHS = ("/v1/chat/completions", "/v1/completions", "/generate", "/api/chat")
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(served_image):
    with serving(served_image, "--queue", "8") as server:
        yield server


@pytest.fixture(autouse=True)
def others_are_served(server):
    """After each test a plain request is answered, and nothing is left in the queue."""
    yield
    until(lambda: server.get("/health").json()["queue_size"] == 0)
    assert server.chat(max_tokens=3)["usage"]["completion_tokens"] == 3


def head(path: str, length: int | str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


def status_of(connection: socket.socket) -> int:
    return int(connection.recv(4096).split(b" ")[1])


BROKEN = {
    "empty": b"",
    "no JSON": b"{no",
    "list": b"[]",
    "number": b"7",
    "NaN": b'{"messages": NaN}',
    "infinite": b'{"temperature": Infinity}',
    "deep": b"[" * 100_000,
    "deep object": b'{"messages":' * 40_000,
    "long number": b'{"seed": 1' + b"0" * 5000 + b"}",
    "not UTF-8": b'{"model": "\xff\xfe"}',
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", BROKEN)
def test_broken_bodies(server, path, name):
    reply = server.http.post(path, content=BROKEN[name])
    assert reply.status_code in (400, 422), reply.text


FIELDS = [
    {"max_tokens": -5},
    {"max_tokens": 1.5},
    {"max_tokens": True},
    {"max_tokens": 10**30},
    {"temperature": -0.1},
    {"temperature": "hot"},
    {"temperature": 1e-9},
    {"top_k": -1},
    {"n": 10**6},
    {"seed": 2**70},
    {"stop": ["x"] * 1_000},
    {"stop": [[]]},
    {"stop": "s" * 1000},
    {"logprobs": "yes"},
    {"stream": "yes"},
    {"stream_options": 3},
    {"response_format": []},
    {"model": "m" * 1000},
    {"model": {"a": 1}},
    {"messages": {}},
    {"messages": [7]},
    {"messages": [{}]},
    {"messages": [{"role": "user", "content": 5}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
    {"messages": [{"role": "assistant", "content": "x"}]},
    {"messages": [{"role": "system", "content": "x"}]},
    {"messages": [{"role": "user", "content": "x"}] * 1001},
    {"guided_regex": "((("},
    {"guided_regex": "(a{1,900}){900}"},
    {"guided_json": {"$ref": "http://elsewhere/schema"}},
]


@pytest.mark.parametrize("fields", FIELDS, ids=lambda f: json.dumps(f)[:40])
def test_fields_out_of_range(server, fields):
    reply = server.post("/v1/chat/completions", {"messages": MESSAGES, **fields})
    assert reply.status_code in (400, 404), reply.text
    assert reply.json()["error"]["message"]


@pytest.mark.parametrize("prompt", [[-1], [999], [1.5], [], "", None, [[]], [[1], "a", 3], {}])
def test_prompts_that_are_none(server, prompt):
    reply = server.post("/v1/completions", {"prompt": prompt})
    assert reply.status_code == 400, reply.text


def test_texts_that_look_like_control_tokens_or_no_text_are_only_text(server):
    for text in ("<|im_end|>", "\ud800", "\x00", "🦙" * 9):
        body = json.dumps({"messages": [{"role": "user", "content": text}], "max_tokens": 2})
        assert server.http.post(PATHS[0], content=body).status_code == 200


def test_a_million_stop_texts(server):
    reply = server.post(PATHS[0], {"messages": MESSAGES, "stop": ["s"] * 200_000})
    assert reply.status_code in (400, 413)


def test_100_mib_are_not_taken_in(server):
    """Neither when the length is told nor when it is not."""
    before = server.memory()
    with server.connect() as connection:
        connection.sendall(head(PATHS[0], 100 * MIB))
        assert status_of(connection) == 413

    def chunks():
        for _ in range(100):
            yield b" " * MIB

    slightly = server.http.post(PATHS[0], content=b" " * MIB)
    assert slightly.status_code == 413
    assert "524,288" in slightly.json()["error"]["message"]
    with contextlib.suppress(httpx.TransportError):  # it hangs up in the middle of our sending
        assert server.http.post(PATHS[0], content=chunks()).status_code == 413
    assert server.memory() - before < 30 * MIB


@pytest.mark.parametrize("length", ["-1", "abc", "9" * 40])
def test_absurd_lengths(server, length):
    with server.connect() as connection:
        connection.sendall(head(PATHS[0], length))
        assert status_of(connection) in (400, 413)


def test_half_a_body_and_a_hang_up(server):
    with server.connect() as connection:
        connection.sendall(head(PATHS[0], 500) + b'{"messages": [')
    until(lambda: any(line["status"] in (400, 499) for line in server.log()[-3:]))


@pytest.fixture
def crowd(server):
    """A thousand connections at once, both ends of which are files."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1200:
        pytest.skip(f"this system lets a process open {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(server.connect()) for _ in range(1000)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_half_bodies_and_idle_connections_hold_nobody_up(server, crowd):
    for connection in crowd[:300]:
        connection.sendall(head(PATHS[0], 500) + b'{"mess')
    for connection in crowd[300:600]:
        connection.sendall(b"GET /health HTT")
    assert server.chat(max_tokens=3)["usage"]["completion_tokens"] == 3


def test_a_thousand_questions_at_once(server, crowd):
    """Each is answered or told that the queue is full, and the log has all of them."""
    logged, memory = len(server.log()), server.memory()
    raw = json.dumps({"messages": MESSAGES, "max_tokens": 3}).encode()
    for connection in crowd:
        connection.sendall(head(PATHS[0], len(raw)) + raw)
    statuses = [status_of(connection) for connection in crowd]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 8
    until(lambda: len(server.log()) >= logged + 1000)
    told = [line["status"] for line in server.log()[logged:]]
    assert sorted(told) == sorted(statuses)
    assert server.memory() - memory < 60 * MIB


@pytest.mark.parametrize("stream", [False, True])
def test_who_hangs_up_is_not_answered_any_further(server, stream):
    """Eight choices of 200 tokens are asked for; only a few can have been made."""
    before = server.metric('tokens_total{kind="completion"}')
    body = {"messages": MESSAGES, "max_tokens": 200, "n": 8, "stream": stream, "ignore_eos": True}
    raw = json.dumps(body).encode()
    with server.connect() as connection:
        connection.sendall(head(PATHS[0], len(raw)) + raw)
        if stream:
            assert status_of(connection) == 200
        else:
            until(lambda: server.metric("chip_busy") == 1)
    until(lambda: server.get("/health").json()["queue_size"] == 0)
    assert server.metric('tokens_total{kind="completion"}') - before < 1200
    assert server.metric('answers_total{reason="cancelled"}') >= 1


def test_a_reader_who_stops_reading_holds_nobody_up(server):
    body = {"messages": MESSAGES, "max_tokens": 200, "n": 4, "stream": True, "logprobs": True}
    raw = json.dumps({**body, "top_logprobs": 20}).encode()
    before = server.memory()
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(head(PATHS[0], len(raw)) + raw)
        assert server.chat(max_tokens=3)["usage"]["completion_tokens"] == 3
        assert server.memory() - before < 60 * MIB


def test_a_full_queue_is_429_with_a_time(server):
    body = {"prompt": ["a", "b"], "n": 8, "max_tokens": 5}
    reply = server.post("/v1/completions", body)
    assert reply.status_code == 429
    assert int(reply.headers["retry-after"]) >= 1
    assert reply.json()["error"]["code"] == "queue_full"


def test_the_log_has_numbers_and_no_words(server):
    secret = "zebra-in-the-prompt"
    reply = server.post(PATHS[0], {"messages": [{"role": "user", "content": secret}], "n": 1})
    server.get(f"/{secret}?key={secret}")
    ident = reply.headers["x-request-id"]
    until(lambda: any(line["id"] == ident for line in server.log()))
    (line,) = (line for line in server.log() if line["id"] == ident)
    assert line["route"] == PATHS[0]
    assert line["completion_tokens"] == reply.json()["usage"]["completion_tokens"]
    assert secret not in "".join(server.lines)
    assert secret not in server.get("/metrics").text


def test_metrics_count(server):
    def numbers():
        names = ('tokens_total{kind="completion"}', "chip_seconds_count", "host_seconds_sum")
        return [server.metric(name) for name in names]

    before = numbers()
    server.chat(max_tokens=7, ignore_eos=True)
    until(lambda: numbers()[1] > before[1])  # counted by the chip's thread, after its answer
    tokens, answers, seconds = (b - a for a, b in zip(before, numbers(), strict=True))
    assert (tokens, answers) == (7, 1)
    assert seconds > 0
    ok = 'requests_total{route="/v1/chat/completions",status="200"}'
    assert server.metric(ok) >= 1


def test_a_key_is_asked_for(served_image):
    with serving(served_image, "--api-key", "s3cret") as server:
        assert server.post(PATHS[0], {"messages": MESSAGES}).status_code == 401
        assert server.get("/metrics").status_code == 401
        assert server.get("/").status_code == 200
        wrong = {"authorization": "Bearer s3cre"}
        assert server.get("/v1/models", headers=wrong).status_code == 401
        right = {"authorization": "Bearer s3cret"}
        assert server.get("/v1/models", headers=right).status_code == 200


def test_the_answer_in_hand_is_finished_before_the_end(served_image):
    with serving(served_image) as server:
        body = {"messages": MESSAGES, "max_tokens": 200, "stream": True, "ignore_eos": True}
        with server.http.stream("POST", PATHS[0], json=body) as reply:
            lines = reply.iter_lines()
            next(line for line in lines if '"chip"' in line)
            server.process.terminate()
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert '"finish_reason": "length"' in rest[-2]
        assert server.stop() in (0, -15)
        assert "Traceback" not in "".join(server.lines)


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
CHUNKED = head(PATHS[0], 1).replace(b"Content-Length: 1", b"Transfer-Encoding: chunked")
SLOW = {
    "a head": (b"GET /health HTTP/1.1\r\n", b"x", 408),
    "a head from its first byte": (b"", b"x", 408),
    "a second head": (WHOLE + b"GET", b"x", 408),
    "a body": (head(PATHS[0], 5000), b"x", 408),
    "chunks": (CHUNKED, b"1\r\nx\r\n", 408),
    "a body that no route reads": (head("/nowhere", 5000), b"x", 404),
    "a body of what is refused": (head(PATHS[0], 5000).replace(b"local", b"evil."), b"x", 403),
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
        connection.sendall(head(PATHS[0], len(raw)) + raw)
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

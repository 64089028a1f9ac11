"""What rude, broken and vanished clients do hurts nobody else, and the log says what happened."""

from __future__ import annotations

import contextlib
import json
import socket

import pytest

from tests.support.serve_process import MESSAGES, head, httpx, serving, until

PATHS = ("/v1/chat/completions", "/v1/completions", "/generate", "/api/chat")
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(served_image):
    with serving(served_image, "--queue", "16") as server:
        yield server


@pytest.fixture(autouse=True)
def others_are_served(server):
    """After each test a plain request is answered, and nothing is left in the queue."""
    yield
    until(lambda: server.get("/health").json()["queue_size"] == 0)
    assert server.chat(max_tokens=3)["usage"]["completion_tokens"] == 3


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
    {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]},
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


def test_more_silent_sockets_than_files(served_image):
    """The newest are closed, the log has one line of it, and afterwards all is as before."""
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (320, 320))"
    with serving(served_image, before=few) as server:
        with contextlib.ExitStack() as stack:
            for _ in range(500):
                stack.enter_context(server.connect())
            until(lambda: any("connections" in line for line in server.lines))
            assert server.get("/health").status_code == 200  # over the connection that it has
            assert server.chat(max_tokens=3)["usage"]["completion_tokens"] == 3
        until(lambda: server.files() < 60)
        with server.connect() as fresh:
            fresh.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert status_of(fresh) == 200
        assert len([line for line in server.lines if not line.startswith("{")]) == 1


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

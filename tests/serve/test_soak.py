"""Mixed clients, one of them hostile: right answers, nothing stuck, no memory lost."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import threading
import time
from collections import Counter

import pytest

from tests.support.attacks import KINDS, attack
from tests.support.serve_process import MESSAGES, httpx, serving

SECONDS = float(os.environ.get("SOAK_SECONDS", "120"))  # docs/serving.md tells of 600
PATH = "/v1/chat/completions"
REFUSED = {400, 413, 422, 429, 503}  # what an attack may be answered
QUESTIONS = [("one", 1), ("two", 2), ("three", 3), ("onward", 4)]


def request_of(word: str, seed: int) -> dict:
    message = {"role": "user", "content": word}
    return {"messages": [message], "seed": seed, "temperature": 1.3, "max_tokens": 40}


def text_of(reply) -> str:
    return reply.json()["choices"][0]["message"]["content"]


def right(server, expected, chance) -> None:
    """Whole or streamed, an answer is what it was when nobody else was there; 429 is one, too."""
    word, seed = chance.choice(QUESTIONS)
    body = request_of(word, seed)
    if chance.random() < 0.5:
        reply = server.post(PATH, body)
        assert reply.status_code in (200, 429)
        assert reply.status_code == 429 or text_of(reply) == expected[word]
        return
    said, done = "", False
    with server.http.stream("POST", PATH, json={**body, "stream": True}) as reply:
        for line in reply.iter_lines():
            done = done or line == "data: [DONE]"
            if line.startswith("data: {"):
                said += json.loads(line[6:])["choices"][0]["delta"].get("content", "")
    assert reply.status_code in (200, 429)
    assert reply.status_code == 429 or (said, done) == (expected[word], True)


def wrong(server, expected, chance) -> None:
    """A request that is refused."""
    bodies = [b"{", b"[]", b'{"messages": []}', b'{"messages": NaN}', b"[" * 5000]
    assert server.http.post(PATH, content=chance.choice(bodies)).status_code == 400


def rude(server, expected, chance) -> None:
    """Half a request, or a whole one whose answer is not read."""
    body = json.dumps({"messages": MESSAGES, "n": 4, "stream": chance.random() < 0.5}).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    )
    whole = head + body
    with server.connect() as connection, contextlib.suppress(OSError):
        connection.sendall(whole[: chance.choice([len(whole), len(head) + 5, 9])])
        connection.settimeout(chance.random() / 4)
        with contextlib.suppress(socket.timeout):
            connection.recv(200)


def demo(server, expected, chance) -> None:
    """The demo's route, and what operators ask."""
    options = {"selectedModel": "llama3.1-8B", "max_tokens": 9}
    reply = server.post("/api/chat", {"messages": MESSAGES, "chatOptions": options})
    assert reply.status_code == 429 or reply.text.endswith("<|/stats|>")
    assert server.get("/health").status_code == 200
    assert server.get("/metrics").status_code == 200


def hostile(server, expected, chance) -> None:
    """An attack on what comes before the queue, from another address."""
    path, body = attack(chance.choice(list(KINDS)), chance.randrange(1 << 20))
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(base_url=server.url, transport=transport, timeout=120) as client:
        assert client.post(path, json=body).status_code in REFUSED | {200}


def report(log: list[dict], early: int, late: int) -> None:
    """For the document that tells how it was checked; pytest -s shows it."""
    print(f"\n{len(log)} requests, {early:,} bytes resident early, {late:,} at the end")
    for (route, status), count in sorted(Counter((r["route"], r["status"]) for r in log).items()):
        print(f"{count:7} {status} {route}")


@pytest.mark.slow
def test_a_long_day(served_image):
    with serving(served_image, "--queue", "12") as server:
        expected = {w: text_of(server.post(PATH, request_of(w, s))) for w, s in QUESTIONS}
        failures: list[BaseException] = []
        end = time.monotonic() + SECONDS

        def client(number: int, act) -> None:
            chance = random.Random(number)
            while time.monotonic() < end and not failures:
                try:
                    act(server, expected, chance)
                except BaseException as problem:
                    failures.append(problem)
                time.sleep(chance.random() / 10)

        acts = [right, right, right, wrong, rude, rude, demo, hostile]
        clients = [threading.Thread(target=client, args=pair) for pair in enumerate(acts)]
        for thread in clients:
            thread.start()
        time.sleep(min(60, SECONDS / 4))
        early = server.memory()
        for thread in clients:
            thread.join()
        if failures:
            raise failures[0]
        deadline = time.monotonic() + 30
        while server.get("/health").json()["queue_size"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert server.memory() - early < 30 << 20
        assert "Traceback" not in "".join(server.lines)
        assert {line["status"] for line in server.log() if line["status"] >= 500} <= REFUSED
        report(server.log(), early, server.memory())

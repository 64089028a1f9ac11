"""Adapters of a running server with two cards: chosen by model, loaded and dropped on the way."""

from __future__ import annotations

import threading

import pytest

from tests.support.adapters import write_adapter
from tests.support.serve_process import serving
from weights.rom import open_image

KEY = {"authorization": "Bearer secret"}
NAMES = ("one", "two")


@pytest.fixture(scope="module")
def server(served_image, tmp_path_factory):
    """With a key, a root of two adapters, and one more outside of it."""
    base, model = tmp_path_factory.mktemp("lora"), open_image(served_image).config
    write_adapter(base / "root" / "one", model, 2, strength=2.0)
    write_adapter(base / "root" / "two", model, 2, ("q", "down"), strength=4.0)
    write_adapter(base / "outside", model, 2)
    options = ("--api-key", "secret", "--lora-root", str(base / "root"), "--queue", "64")
    checkpoint = ("--checkpoint", str(served_image.with_name("checkpoint")))
    cards = ("--cards", "2", "--policy", "sticky")
    with serving(served_image, *options, *checkpoint, *cards) as running:
        yield running


def post(server, path, **body):
    return server.post(f"/v1/{path}", body, headers=KEY)


def answer(server, model, text="hi", session=""):
    """Status and text of a greedy answer."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 4}
    body |= {"prompt_cache_key": session} if session else {}
    reply = post(server, "chat/completions", **body)
    said = reply.json()["choices"][0]["message"]["content"] if reply.status_code == 200 else ""
    return reply.status_code, said, reply


def models(server):
    return [m["id"] for m in server.get("/v1/models", headers=KEY).json()["data"]]


def test_load_use_and_drop(server):
    _, plain, _ = answer(server, "tiny")
    assert answer(server, "tiny:one")[0] == 404
    assert post(server, "load_lora_adapter", lora_name="one", lora_path="one").status_code == 200
    assert models(server) == ["tiny", "tiny:one"]
    status, adapted, reply = answer(server, "tiny:one")
    assert status == 200
    assert adapted != plain
    assert reply.json()["model"] == "tiny:one"
    assert server.get("/health").json()["current_adapter"] == "one"
    assert answer(server, "tiny")[1] == plain
    assert server.get("/health").json()["current_adapter"] == "none"
    again = post(server, "load_lora_adapter", lora_name="one", lora_path="one")
    assert (again.status_code, "already" in again.text) == (400, True)
    assert post(server, "unload_lora_adapter", lora_name="one").status_code == 200
    assert post(server, "unload_lora_adapter", lora_name="one").status_code == 404
    assert models(server) == ["tiny"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        *(("a", "../outside"), ("a", "/etc"), ("a", "one/../../outside"), ("a", "no")),
        *(("../a", "one"), ("", "one"), ("a b", "one"), ("a", ""), ("a", "x\0y"), ("a", 7)),
    ],
)
def test_refused(server, name, path):
    """One line, no path of the server in it, nothing loaded."""
    reply = post(server, "load_lora_adapter", lora_name=name, lora_path=path)
    assert reply.status_code == 400
    message = reply.json()["error"]["message"]
    assert "\n" not in message
    assert "/root/" not in message
    assert models(server) == ["tiny"]


def test_the_key_is_asked_for(server, served_image):
    """And a server that has none loads nothing by request."""
    body = {"lora_name": "one", "lora_path": "one"}
    assert server.post("/v1/load_lora_adapter", body).status_code == 401
    with serving(served_image) as open_to_all:
        assert open_to_all.post("/v1/load_lora_adapter", body).status_code == 403


SAY = [{"role": "user", "content": "hi"}]
ENDPOINTS = {  # path -> a request, but for its model
    "/v1/chat/completions": {"messages": SAY, "max_tokens": 4},
    "/v1/completions": {"prompt": "hi", "max_tokens": 4},
    "/v1/responses": {"input": "hi", "max_output_tokens": 4},
    "/v1/embeddings": {"input": "hi"},
    "/v1/messages": {"messages": SAY, "max_tokens": 4},
    "/api/generate": {"prompt": "hi", "stream": False, "options": {"num_predict": 4}},
    "/api/chat": {"messages": SAY, "stream": False, "options": {"num_predict": 4}},
    "the demo's": {"messages": SAY, "chatOptions": {"topK": 1, "max_tokens": 4}},
    "/generate": {"prompt": SAY, "topk": 1, "max_output_tokens": 4},
}


def said(server, endpoint, model):
    """Status, and of an answer what depends on the model's weights alone."""
    body = dict(ENDPOINTS[endpoint])
    if endpoint == "the demo's":
        body["chatOptions"] = {**body["chatOptions"], "selectedModel": model}
        reply = server.post("/api/chat", body, headers=KEY)
        return reply.status_code, reply.text.partition("<|stats|>")[0]
    reply = server.post(endpoint, body | {"model": model}, headers=KEY)
    if reply.status_code != 200:
        return reply.status_code, ""
    body = reply.json()
    for key in ("choices", "output", "data", "content", "response", "message"):
        if key in body:
            part = body[key][0] if isinstance(body[key], list) else body[key]
            return 200, {k: v for k, v in part.items() if k != "id"} if type(part) is dict else part
    raise AssertionError(body)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_endpoint_takes_an_adapter(server, endpoint):
    """As NAME:ADAPTER: another answer than the model's, which stays; unknown ones give 404."""
    plain = said(server, endpoint, "tiny")
    assert post(server, "load_lora_adapter", lora_name="one", lora_path="one").status_code == 200
    adapted = said(server, endpoint, "tiny:one")
    assert (plain[0], adapted[0]) == (200, 200)
    assert adapted[1] != plain[1]
    assert said(server, endpoint, "tiny") == plain
    names = [m["name"] for m in server.get("/api/tags", headers=KEY).json()["models"]]
    assert names == ["tiny:latest", "tiny:one"]
    assert post(server, "unload_lora_adapter", lora_name="one").status_code == 200
    assert said(server, endpoint, "tiny:one")[0] == 404


def traffic(server, requests: int) -> None:
    """Clients ask for every model while adapters come and go; each answer is the right one."""
    texts = ["hi", "a longer question", "hi"]
    right = {}
    for name in NAMES:
        assert post(server, "load_lora_adapter", lora_name=name, lora_path=name).status_code == 200
    for model in ("tiny", *(f"tiny:{name}" for name in NAMES)):
        for text in texts:
            right[model, text] = answer(server, model, text)[1]
    assert len({right[model, "hi"] for model, text in right}) == 3
    wrong, counts, over = [], {200: 0, 404: 0}, threading.Event()

    def ask(first: int) -> None:
        for i in range(first, requests, 4):
            model, text = list(right)[(i * 7) % len(right)]
            status, said, _ = answer(server, model, text, f"session {first}")
            if (
                status not in counts
                or (status == 200 and said != right[model, text])
                or (status == 404 and model == "tiny")
            ):
                wrong.append((model, text, status, said))
            else:
                counts[status] += 1

    def come_and_go() -> None:
        while not over.wait(0.02):
            post(server, "unload_lora_adapter", lora_name="one")
            post(server, "load_lora_adapter", lora_name="one", lora_path="one")

    churn = threading.Thread(target=come_and_go)
    clients = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in (churn, *clients):
        thread.start()
    for client in clients:
        client.join()
    over.set()
    churn.join()
    for name in NAMES:
        post(server, "unload_lora_adapter", lora_name=name)
    assert not wrong, wrong[:3]
    assert sum(counts.values()) == requests
    assert counts[200] > requests // 3


def test_traffic_while_adapters_come_and_go(server):
    traffic(server, 60)


@pytest.mark.slow
def test_two_thousand_requests(server):
    traffic(server, 2000)

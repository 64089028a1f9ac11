"""Requests that nobody sends by mistake, by class: the right status, one line, no 500."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.serve_process import MESSAGES, compile_served, httpx, serving, until
from tests.support.tiny_model import tiny_tokenizer

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module")
def server(served_image):
    with serving(served_image) as server:
        yield server


LONE = "\ud800"
SURROGATES = {  # each field that a text may stand in
    "guided_regex": (CHAT, {"messages": MESSAGES, "guided_regex": f"a{LONE}"}),
    "guided_json": (CHAT, {"messages": MESSAGES, "guided_json": {"const": LONE}}),
    "a schema's key": (CHAT, {"messages": MESSAGES, "guided_json": {"properties": {LONE: {}}}}),
    "stop": (CHAT, {"messages": MESSAGES, "stop": LONE}),
    "stops": (CHAT, {"messages": MESSAGES, "stop": ["a", f"b{LONE}"]}),
    "model": (CHAT, {"messages": MESSAGES, "model": LONE}),
    "user": (CHAT, {"messages": MESSAGES, "user": LONE}),
    "prompt_cache_key": (CHAT, {"messages": MESSAGES, "prompt_cache_key": LONE}),
    "content": (CHAT, {"messages": [{"role": "user", "content": LONE}]}),
    "role": (CHAT, {"messages": [{"role": LONE, "content": "a"}]}),
    "name": (CHAT, {"messages": [{"role": "user", "content": "a", "name": LONE}]}),
    "an unknown field": (CHAT, {"messages": MESSAGES, LONE: LONE}),
    "prompt": (COMPLETIONS, {"prompt": LONE, "echo": True}),
    "input": ("/v1/responses", {"input": LONE}),
    "system": ("/v1/messages", {"system": LONE, "messages": MESSAGES, "max_tokens": 2}),
    "Ollama's format": (
        "/api/generate",
        {"model": "tiny", "prompt": "a", "format": {LONE: 1}, "stream": False},
    ),
    "text": ("/tokenize", {"prompt": LONE}),
}


@pytest.mark.parametrize("name", SURROGATES)
def test_lone_surrogates(server, name):
    path, body = SURROGATES[name]
    reply = server.http.post(path, content=json.dumps({"max_tokens": 2, **body}))
    assert reply.status_code in (200, 400, 404, 422), reply.text
    reply.json()


ENDLESS = {
    "optional letters": {"guided_regex": "(a?){1000}(a?){1000}(a?){1000}b"},
    "nested counts": {"guided_regex": "((a{1,100}){1,100}){1,100}"},
    "many words": {"guided_regex": "|".join(f"w{i}" for i in range(8000))},
    "deep brackets": {"guided_regex": "(" * 5000 + ")" * 5000},
    "deep schema": {"guided_json": json.loads('{"items":' * 150 + "{}" + "}" * 150)},
    "its own reference": {"guided_json": {"$ref": "#"}},
    "a circle": {"guided_json": {"$ref": "#/a", "a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}}},
    "all of nothing": {"guided_json": {"allOf": [{"type": "string"}, {"type": "number"}]}},
    "a large enum": {"guided_json": {"enum": [f"value {i}" for i in range(3000)]}},
    "a pattern inside": {"guided_json": {"type": "string", "pattern": "(a?){900}$"}},
    "impossible numbers": {"guided_json": {"type": "integer", "minimum": 2, "maximum": 1}},
    "a long string": {"guided_json": {"type": "string", "minLength": 10**9}},
}


@pytest.mark.parametrize("name", ENDLESS)
def test_grammars(server, name):
    """A short answer, or a refusal; never a 500, and others are served after it."""
    body = {"messages": MESSAGES, "max_tokens": 2, **ENDLESS[name]}
    reply = server.post(CHAT, body, timeout=120)
    assert reply.status_code in (200, 400), reply.text
    if reply.status_code == 400:
        assert "\n" not in reply.json()["error"]["message"]
    assert server.get("/health").status_code == 200


def test_an_identifier_of_everything(server):
    """Sixty thousand ids are decoded beside the event loop, the last one is refused."""
    reply = server.post("/detokenize", {"tokens": [1] * 60_000})
    assert reply.status_code == 200
    assert server.post("/detokenize", {"tokens": [1] * 9 + [10**6]}).status_code == 400


def test_masks_that_are_cut_end_the_process(tmp_path):
    """A line names the file, requests get a 500, and the status is 1."""
    image = compile_served(tmp_path)
    with serving(image) as server:
        shard = image / "layer-001.safetensors"
        with shard.open("r+b") as file:
            file.truncate(shard.stat().st_size // 4096 * 4096 - 4096)
        try:
            reply = server.post(CHAT, {"messages": MESSAGES, "max_tokens": 3})
            assert reply.status_code in (500, 503)
        except httpx.TransportError:
            pass  # it had gone already
        assert server.process.wait(60) == 1
        until(lambda: any("layer-001.safetensors: cut to" in line for line in server.lines))


def test_a_model_that_cannot_be_served(tmp_path, run_serve, served_image):
    """Without an end token; with tokens that the model has no rows for; on one position."""
    run_serve(compile_served(tmp_path / "a", end_ids=[])).match("without an end token|end")
    tokenizer = json.loads(tiny_tokenizer())
    tokenizer["model"]["vocab"]["zz"] = 5000
    image = compile_served(tmp_path / "b", tokenizer_json=json.dumps(tokenizer))
    run_serve(image).match("tokens up to 5000, the model only 320")
    run_serve(served_image, "--context", "1").match("--context of at least 2")


class Refusal(str):
    def match(self, pattern: str) -> None:
        (line,) = self.splitlines()
        assert line.startswith("error: ")
        assert re.search(pattern, line), line


@pytest.fixture
def run_serve(capfd):
    """Start `serve` in this process with an image that it refuses; what it says."""
    from emulator.cli import main

    def run(image, *more) -> Refusal:
        capfd.readouterr()
        assert main(["serve", "--image", str(image), "--port", "0", *more]) == 2
        return Refusal(capfd.readouterr().err.strip())

    return run


def test_a_context_of_two_and_a_key_of_any_bytes(served_image):
    """Both are odd, and neither is an error: a prompt does not fit, a key is compared."""
    with serving(served_image, "--context", "2", "--api-key", "\udcff") as server:
        assert server.post(CHAT, {"messages": MESSAGES}).status_code == 401
        reply = server.post(
            CHAT, {"messages": MESSAGES}, headers={b"authorization": b"Bearer \xff"}
        )
        assert reply.json()["error"]["code"] == "context_length_exceeded"

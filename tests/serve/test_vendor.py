"""The vendor's interface and its demo's, sane and faithful."""

from __future__ import annotations

import json
import re

import pytest

from emulator.cli import main
from tests.support.serve_process import CONTEXT, MESSAGES, compile_served, serving

LONG = [{"role": "user", "content": "x" * 300}]


@pytest.fixture(scope="module")
def sane(served_image):
    with serving(served_image) as server:
        yield server


@pytest.fixture(scope="module")
def faithful(tmp_path_factory):
    """Its model ends an answer with many a token, so that some answers end before the context."""
    image = compile_served(tmp_path_factory.mktemp("faithful"), end_ids=[257, *range(60)])
    with serving(image, "--faithful") as server:
        yield server


def ask(server, messages=MESSAGES, options=None, **fields):
    options = {"selectedModel": "llama3.1-8B", **(options or {})}
    return server.post("/api/chat", {"messages": messages, "chatOptions": options, **fields})


def parts(reply) -> tuple[str, dict]:
    """Text and stats of the demo's stream."""
    assert reply.status_code == 200, reply.text
    text, trailer = re.fullmatch(r"(.*)<\|stats\|>(.*)<\|/stats\|>", reply.text, re.DOTALL).groups()
    return text, json.loads(trailer)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--port", "99999"], "--port"),
        (["--host", "192.0.2.1"], "--host 192.0.2.1"),
        (["--queue", "0"], "--queue"),
        (["--max-tokens", "-1"], "--max-tokens"),
        (["--api-key", ""], "API key"),
        (["--cards", "0"], "--cards"),
        (["--cards", "-1"], "--cards"),
        (["--cards", "1001"], "--cards"),
        (["--slow", "5"], "--slow belongs to a pace"),
        (["--prefill", "serial"], "--prefill belongs to a pace"),
        (["--deployment", "x"], "--deployment belongs to a pace"),
        (["--pace", "chip", "--slow", "0.5"], "--slow"),
        (["--pace", "chip", "--slow", "nan"], "--slow"),
        (["--pace", "chip", "--slow", "inf"], "--slow"),
    ],
)
def test_options_that_make_no_sense(capsys, words, named):
    assert main(["serve", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert named in line


def test_cards_and_deployments_that_are_not_there(served_image, capsys, monkeypatch):
    monkeypatch.setattr("emulator.host.installed_bytes", lambda: 1000)
    image = ["--image", str(served_image), "--port", "0"]
    for words, named in (
        (["--cards", "9"], "--cards 9: their KV SRAMs of 256 positions take"),
        (["--pace", "chip", "--deployment", "home"], "2026-02-lab"),
    ):
        assert main(["serve", *image, *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert named in line


def test_a_port_that_is_taken(sane, capsys):
    assert main(["serve", "--port", str(sane.port)]) == 2
    assert "in use" in capsys.readouterr().err


def test_health_and_models(sane):
    report = sane.get("/health").json()
    assert report["status"] == "ok"
    assert report["queue_size"] == 0
    assert report["current_adapter"] == "none"
    assert 0 <= report["last_token_seconds_ago"] < 60
    assert sane.get("/models").json()["data"][0]["id"] == "tiny"
    assert sane.get("/api/health").json()["backendDetails"]["queue_size"] == 0
    assert sane.get("/api/models").json()["data"][0]["id"] == "tiny"


def test_generate_speaks_the_vendors_fields(sane):
    reply = sane.post(
        "/generate",
        {"prompt": MESSAGES, "max_output_tokens": 9, "min_output_tokens": 9, "topk": 8},
    ).json()
    assert reply["usage"]["completion_tokens"] == 9
    assert reply["parameters"]["top_k"] == 8
    text = sane.post("/generate", {"prompt": "ab", "max_output_tokens": 4, "echo": True}).json()
    assert text["choices"][0]["text"].startswith("ab")
    guided = {"prompt": MESSAGES, "guided_regex": "[ab]{3}c", "max_output_tokens": 9}
    said = sane.post("/generate", guided).json()["choices"][0]["message"]["content"]
    assert re.fullmatch("[ab]{3}c", said)


@pytest.mark.parametrize("fields", [{"topk": 9}, {"temperature": 3}, {"max_output_tokens": -1}, {}])
def test_generate_refuses_as_the_vendors_framework_does(sane, fields):
    reply = sane.post("/generate", {"prompt": MESSAGES, **fields} if fields else {})
    assert reply.status_code == 422
    (detail,) = reply.json()["detail"]
    assert set(detail) == {"loc", "msg", "type"}
    assert detail["loc"][-1] == next(iter(fields), "prompt")


def test_an_overflow_is_a_400_that_says_so(sane):
    for path in ("/generate", "/v1/chat/completions"):
        reply = sane.post(path, {"prompt": LONG, "messages": LONG})
        assert reply.status_code == 400
        assert reply.json()["error"]["code"] == "context_length_exceeded"


def test_the_description_names_every_route(sane):
    description = sane.get("/openapi.json").json()
    assert description["openapi"] == "3.1.0"
    for path, operations in description["paths"].items():
        (method,) = operations
        reply = sane.http.request(method, path)
        assert reply.status_code == (200 if method == "get" else reply.status_code)
        assert reply.status_code not in (404, 405), path


def test_the_demos_trailer_holds_what_the_cycle_model_says(sane):
    text, stats = parts(ask(sane, options={"max_tokens": 20}))
    direct = sane.chat(max_tokens=20)
    assert text == direct["choices"][0]["message"]["content"]
    chip, usage = direct["usage"]["chip"], direct["usage"]
    assert stats["prefill_tokens"] == usage["prompt_tokens"]
    assert stats["decode_tokens"] == 20
    assert stats["total_tokens"] == usage["total_tokens"]
    assert stats["ttft"] == chip["ttft_seconds"]
    assert stats["total_time"] == pytest.approx(chip["seconds"])
    assert stats["prefill_rate"] == stats["prefill_tokens"] / stats["ttft"]
    # N tokens over N - 1 steps, as the demo counts
    assert stats["decode_rate"] == pytest.approx(chip["tokens_per_second"] * 20 / 19)
    assert stats["total_duration"] >= stats["total_time"]
    assert list(stats)[:5] == ["created_at", "done", "done_reason", "total_duration", "logprobs"]


def test_the_demo_honours_what_it_is_asked(sane):
    one, again, other = (
        parts(ask(sane, options={"topK": 8, "seed": seed, "max_tokens": 9}))[0]
        for seed in (1, 1, 2)
    )
    assert one == again != other
    _, system = parts(ask(sane, options={"systemPrompt": "be", "max_tokens": 9}))
    _, attached = parts(
        ask(sane, options={"max_tokens": 9}, attachment={"name": "a", "size": 2, "content": "zz"})
    )
    assert system["prefill_tokens"] > 21 + len("be")
    assert attached["prefill_tokens"] == 21 + len("a:\nzz\n\n")


@pytest.mark.parametrize(
    ("messages", "options", "status"),
    [
        (MESSAGES, {"selectedModel": ""}, 400),
        ([], {}, 400),
        (LONG, {}, 400),
        (MESSAGES, {"topK": 0}, 400),
        (MESSAGES, {"selectedModel": "gpt-4"}, 404),
    ],
)
def test_the_sane_demo_refuses_in_its_own_shape(sane, messages, options, status):
    reply = ask(sane, messages, options)
    assert reply.status_code == status
    assert reply.json()["success"] is False
    assert reply.json()["error"]


def test_the_sane_demo_refuses_a_large_attachment(sane):
    reply = ask(sane, attachment={"name": "a", "size": 1, "content": "z" * 51_201})
    assert (reply.status_code, "51,200" in reply.json()["error"]) == (400, True)


def test_routes_of_the_demo_that_are_not(sane):
    reply = sane.get("/api/chat")
    assert (reply.status_code, reply.content) == (405, b"")
    assert "POST" in reply.headers["allow"]
    assert sane.get("/api/other").status_code == 404
    assert sane.post("/api/health", {}).status_code == 405


def test_faithful_overflow_is_an_empty_success(faithful):
    for messages in (LONG, [{"role": "user", "content": "x" * (CONTEXT - 25)}]):
        reply = ask(faithful, messages)
        assert (reply.status_code, reply.content) == (200, b"")
        assert reply.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("options", [{"topK": 9}, {"topK": 16}, {"topK": 200}])
def test_faithful_top_k_above_8_is_a_server_error(faithful, options):
    assert ask(faithful, options=options).status_code == 500


def test_faithful_bodies(faithful):
    reply = faithful.http.post("/api/chat", content=b"{no")
    assert reply.status_code == 500
    assert "JSON" in reply.json()["error"]
    assert ask(faithful, []).status_code == 500
    missing = faithful.post("/api/chat", {"messages": MESSAGES})
    assert missing.status_code == 400
    assert missing.json() == {"success": False, "error": "Selected model is required"}


def test_faithful_names_of_models(faithful):
    (model,) = faithful.get("/api/models").json()["data"]
    assert model == {
        "id": "llama3.1-8B",
        "object": "model",
        "created": 1690000000,
        "owned_by": "Taalas Inc.",
    }


def test_faithful_ignores_what_the_demo_ignores_and_comes_in_one_burst(faithful):
    wishes = {"selectedModel": "anything", "temperature": -3, "max_tokens": 1, "topK": 8}
    replies = [ask(faithful, options=wishes) for _ in range(20)]
    text, stats = parts(max(replies, key=lambda reply: len(reply.content)))
    assert stats["decode_tokens"] > 1
    assert text
    assert all("content-length" in reply.headers for reply in replies)  # whole before it was sent
    assert re.fullmatch(r"termination token \d+/\S+ detected", stats["reason"])

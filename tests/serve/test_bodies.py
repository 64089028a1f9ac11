"""Bodies that are wrong, on every route that takes one: a 4xx in one line that names the field."""

from __future__ import annotations

import json

import pytest

from emulator.serve.body import RequestError, checked
from emulator.serve.shapes.openai import ChatRequest
from tests.serve.test_abuse import BROKEN
from tests.support.serve_process import MESSAGES, serving

BLOCK = {"role": "user", "content": [{"type": "tool_result", "content": "x"}]}
OLLAMA = {"model": "tiny", "messages": MESSAGES}
CLAUDE = {"model": "tiny", "messages": MESSAGES, "max_tokens": 3}
WRONG = [
    ("/api/chat", {**OLLAMA, "model": 7}, "model"),
    ("/api/chat", {**OLLAMA, "model": ""}, "model"),
    ("/api/chat", {"model": "tiny"}, "messages"),
    ("/api/chat", {**OLLAMA, "messages": "hi"}, "messages"),
    ("/api/chat", {**OLLAMA, "messages": [{"role": "wizard"}]}, "messages[0].role"),
    ("/api/chat", {**OLLAMA, "stream": "no"}, "stream"),
    ("/api/chat", {**OLLAMA, "options": []}, "options"),
    ("/api/chat", {**OLLAMA, "options": {"temperature": "hot"}}, "options.temperature"),
    ("/api/chat", {**OLLAMA, "options": {"temperature": 1e-9}}, "options.temperature"),
    ("/api/chat", {**OLLAMA, "options": {"num_predict": 1.5}}, "options.num_predict"),
    ("/api/chat", {**OLLAMA, "options": {"stop": [7]}}, "options.stop"),
    ("/api/chat", {**OLLAMA, "format": "yaml"}, "format"),
    ("/api/chat", {**OLLAMA, "format": {"type": "q"}}, "format"),
    ("/api/chat", {**OLLAMA, "tools": [{"function": {}}]}, "tools[0].function.name"),
    ("/api/generate", {"prompt": "x"}, "model"),
    ("/api/generate", {"model": "tiny", "prompt": ["x"]}, "prompt"),
    ("/api/generate", {"model": "tiny", "prompt": "x", "system": 7}, "system"),
    ("/api/show", {"model": {}}, "model"),
    ("/v1/messages", {**CLAUDE, "max_tokens": None}, "max_tokens"),
    ("/v1/messages", {**CLAUDE, "temperature": 2}, "temperature"),
    ("/v1/messages", {**CLAUDE, "system": 7}, "system"),
    ("/v1/messages", {**CLAUDE, "messages": [{"role": "system"}]}, "messages[0]."),
    ("/v1/messages", {**CLAUDE, "messages": [BLOCK]}, "messages[0].content[0].tool_use_id"),
    ("/v1/messages", {**CLAUDE, "tools": [{"name": "f", "input_schema": 7}]}, "input_schema"),
    ("/v1/messages", {**CLAUDE, "tool_choice": {"type": "tool", "name": "f"}}, "tool_choice"),
    ("/v1/responses", {"input": 7}, "input"),
    ("/v1/responses", {"input": [{"type": "reasoning"}]}, "input[0].type"),
    ("/v1/responses", {"input": [{"content": "x"}]}, "input[0].role"),
    ("/v1/responses", {"input": [{"type": "function_call", "arguments": "["}]}, "input[0].name"),
    ("/v1/responses", {"input": "x", "previous_response_id": "r"}, "previous_response_id"),
    ("/v1/responses", {"input": "x", "text": {"format": {"type": "xml"}}}, "text.format.type"),
    ("/v1/embeddings", {}, "input"),
    ("/v1/embeddings", {"input": [999]}, "input"),
    ("/v1/embeddings", {"input": "x", "dimensions": 3}, "dimensions"),
    ("/tokenize", {}, "prompt"),
    ("/detokenize", {"tokens": [999]}, "tokens"),
]
ROUTES = sorted({path for path, _, _ in WRONG})


@pytest.fixture(scope="module")
def server(served_image):
    with serving(served_image) as server:
        yield server


def words_of(reply) -> str:
    """The message of an error, in whichever shape the route has."""
    error = reply.json()["error"]
    return error if isinstance(error, str) else error["message"]


@pytest.mark.parametrize(("path", "body", "field"), WRONG, ids=lambda v: json.dumps(v)[:60])
def test_wrong_types_are_refused_by_name(server, path, body, field):
    reply = server.post(path, body)
    assert reply.status_code == 400, reply.text
    assert field in words_of(reply)
    assert "\n" not in words_of(reply)


def test_a_message_of_an_empty_text_is_one(server):
    """Where it is the only one, there was none left to look at."""
    empty = {"role": "assistant", "content": [{"type": "text", "text": ""}]}
    reply = server.post("/v1/messages", {**CLAUDE, "messages": [empty]})
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("path", ROUTES)
def test_what_is_no_json_is_refused_everywhere(server, path):
    for name, raw in BROKEN.items():
        reply = server.http.post(path, content=raw)
        assert reply.status_code == 400, name
    assert server.chat(max_tokens=3)["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n": 9}, "n must be a whole number from 1 to 8, not 9"),
        ({"n": True}, "n must be a whole number from 1 to 8, not True"),
        ({"top_p": "x"}, "top_p must be a number from 0 to 1, not 'x'"),
        ({"temperature": 10**400}, "temperature must be a number from 0 to 2, not 1"),
        ({"stream": 1}, "stream must be true or false, not 1"),
        ({"stream_options": {"include_usage": 3}}, "stream_options.include_usage must be true or"),
        ({"messages": []}, "messages must be a list of 1 to 1,000, each an object, not []"),
        ({"messages": [{}]}, "messages[0].role must be assistant, developer, system, tool or user"),
        ({"messages": [7]}, "messages[0] must be an object, not 7"),
        ({"logit_bias": {"1": 101}}, "logit_bias must be an object of values, each a number from"),
        ({"stop": ["x", ""]}, "stop must be a text of 1 to 256 characters or a list of at most 16"),
    ],
)
def test_the_words_of_a_refusal(fields, words):
    """They come from the declaration that was broken, and show what was sent."""
    with pytest.raises(RequestError) as caught:
        checked({"messages": MESSAGES, **fields}, ChatRequest)
    assert str(caught.value).startswith(words)
    assert caught.value.param == words.partition(" must")[0]

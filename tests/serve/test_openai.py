"""/v1 as OpenAI's own package and the `llm` command use it, over a real socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.serve_process import CONTEXT, MESSAGES, serving, until

openai = pytest.importorskip("openai")

SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 2]}},
    "required": ["ok", "n"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}


@pytest.fixture(scope="module")
def server(served_image):
    with serving(served_image) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0, timeout=60)


def chat(client, **fields):
    fields = {"model": "tiny", "messages": MESSAGES, "max_tokens": 12, **fields}
    return client.chat.completions.create(**fields)


def test_the_models(client):
    (model,) = client.models.list().data
    assert model.id == "tiny" == client.models.retrieve("tiny").id


def test_an_answer_with_its_cost_and_the_parameters_that_made_it(client):
    reply = chat(client)
    usage = reply.usage
    assert usage.completion_tokens == 12
    assert usage.total_tokens == usage.prompt_tokens + 12
    assert usage.chip["cycles"] == sum(usage.chip["cycles_by_block"].values())
    assert 0 < usage.chip["ttft_seconds"] < usage.chip["seconds"] < 1e-3
    assert usage.host["seconds"] > usage.chip["seconds"]
    assert reply.choices[0].finish_reason == "length"
    assert reply.parameters["top_k"] == 1
    assert reply.parameters["host_options"] == []


def test_a_stream_is_the_answer_in_pieces(client):
    whole = chat(client, seed=5, temperature=1.0, top_p=1.0)
    events = list(
        chat(client, seed=5, temperature=1.0, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(e.choices[0].delta.content or "" for e in events if e.choices)
    assert text == whole.choices[0].message.content
    assert [e.choices[0].finish_reason for e in events if e.choices][-1] == "length"
    assert events[-1].usage.completion_tokens == 12
    times = [e.chip["seconds"] for e in events if hasattr(e, "chip")]
    assert len(times) > 2
    assert times == sorted(times)


def test_the_first_piece_comes_before_the_last_token(server):
    """True streaming: the chip is still at work when the client has the first text."""
    body = {"messages": MESSAGES, "max_tokens": 200, "n": 8, "stream": True, "temperature": 1}
    with server.http.stream("POST", "/v1/chat/completions", json=body) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = reply.iter_lines()
        next(line for line in lines if '"chip"' in line)
        assert server.metric("chip_busy") == 1
        *_, done = (line for line in lines if line)
    assert done == "data: [DONE]"


def test_seeds(client):
    def text(**more):
        return chat(client, temperature=1.5, **more).choices[0].message.content

    assert text(seed=1) == text(seed=1) != text(seed=2)
    drawn = chat(client, temperature=1.5)
    again = chat(client, temperature=1.5, seed=drawn.parameters["seed"])
    assert again.choices[0].message.content == drawn.choices[0].message.content


def test_choices_have_seeds_of_their_own(client):
    reply = chat(client, n=3, seed=4, temperature=1.5)
    single = [
        chat(client, seed=4 + i, temperature=1.5).choices[0].message.content for i in range(3)
    ]
    assert [choice.message.content for choice in reply.choices] == single
    assert reply.usage.completion_tokens == 36


@pytest.mark.parametrize("stream", [False, True])
def test_stop_texts_never_show(client, stream):
    asked = {"max_tokens": 60, "temperature": 1.5, "seed": 1}
    whole = chat(client, **asked).choices[0].message.content
    stop = next(c for c in whole[1:] if c.isascii() and c.isalpha())
    reply = chat(client, **asked, stop=[stop, "never said"], stream=stream)
    if stream:
        reply = list(reply)
        text = "".join(e.choices[0].delta.content or "" for e in reply)
        reason = reply[-1].choices[0].finish_reason
    else:
        text, reason = reply.choices[0].message.content, reply.choices[0].finish_reason
    assert text == whole[: whole.index(stop)]
    assert reason == "stop"


def test_logprobs(client):
    reply = chat(client, logprobs=True, top_logprobs=3)
    entries = reply.choices[0].logprobs.content
    assert len(entries) == 12
    for entry in entries:
        assert len(entry.top_logprobs) == 3
        assert entry.logprob == entry.top_logprobs[0].logprob < 0  # greedy
        assert isinstance(entry.bytes, list)
    streamed = chat(client, logprobs=True, top_logprobs=3, stream=True)
    pieces = [e.choices[0].logprobs for e in streamed if e.choices[0].logprobs]
    assert [t.logprob for p in pieces for t in p.content] == [t.logprob for t in entries]


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_a_json_schema_is_kept(client, temperature):
    reply = chat(client, response_format=FORMAT, max_tokens=60, temperature=temperature, seed=3)
    value = json.loads(reply.choices[0].message.content)
    assert set(value) == {"ok", "n"}
    assert value["n"] in (1, 2)
    assert reply.choices[0].finish_reason == "stop"
    assert "constraint" in reply.parameters["host_options"]


def test_a_json_object_begins_as_one(client):
    reply = chat(client, response_format={"type": "json_object"}, max_tokens=9)
    assert reply.choices[0].message.content.startswith("{")


def test_what_the_chip_cannot_do_is_named(client):
    reply = chat(client, temperature=1.0, top_p=0.5, extra_body={"top_k": 40, "min_tokens": 12})
    assert reply.parameters["host_options"] == ["top_k", "top_p", "min_tokens"]
    assert reply.usage.completion_tokens == 12


def test_completions_of_texts_and_token_ids(client):
    ids = list(b"ab")
    text = client.completions.create(model="tiny", prompt=["a", "b"], max_tokens=5, logprobs=2)
    assert [choice.index for choice in text.choices] == [0, 1]
    assert len(text.choices[0].logprobs.tokens) == 5
    echoed = client.completions.create(model="tiny", prompt="a", max_tokens=5, echo=True)
    assert echoed.choices[0].text == "a" + text.choices[0].text
    assert (
        client.completions.create(model="tiny", prompt=ids, max_tokens=5).usage.prompt_tokens == 2
    )


def test_history_is_not_run_again(client, server):
    """The client is not told, since the prompt before its own may be somebody else's."""
    cached = 'tokens_total{kind="prompt_cached"}'
    first = chat(client, max_tokens=3)
    said = {"role": "assistant", "content": first.choices[0].message.content}
    before = server.metric(cached)
    longer = [*MESSAGES, said, {"role": "user", "content": "and"}]
    reply = chat(client, messages=longer, max_tokens=3)
    assert reply.usage.prompt_tokens_details.cached_tokens == 0
    until(lambda: server.metric(cached) - before >= first.usage.prompt_tokens)
    assert reply.usage.chip["ttft_seconds"] > first.usage.chip["ttft_seconds"]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "gpt-4"}, 404, "model"),
        ({"temperature": -1}, 400, "temperature"),
        ({"max_tokens": -1}, 400, "max_tokens"),
        ({"n": 0}, 400, "n"),
        ({"top_p": 2}, 400, "top_p"),
        ({"stop": [""]}, 400, "stop"),
        ({"top_logprobs": 3}, 400, "top_logprobs"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, 400, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "x" * 300}]}, 400, "messages"),
        ({"logit_bias": {"5": 101}}, 400, "logit_bias"),
        ({"logit_bias": {"320": 1}}, 400, "logit_bias"),
        ({"frequency_penalty": 2.1}, 400, "frequency_penalty"),
        ({"extra_body": {"repetition_penalty": 0}}, 400, "repetition_penalty"),
        ({"response_format": {"type": "xml"}}, 400, "response_format.type"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "q"}}}},
            400,
            "response_format.json_schema.schema",
        ),
    ],
)
def test_errors_say_what_and_where(client, fields, status, param):
    with pytest.raises(openai.APIStatusError) as caught:
        chat(client, **fields)
    assert caught.value.status_code == status
    assert caught.value.body["param"] == param
    assert caught.value.body["type"] == "invalid_request_error"


def test_users_at_once_get_what_they_would_get_alone(client):
    requests = [
        {"messages": [{"role": "user", "content": word}], "temperature": 1.2, "seed": i}
        for i, word in enumerate(["one", "two", "onward", "t", "two", "three"])
    ]

    def text(request):
        reply = chat(client, **request, max_tokens=40)
        return reply.choices[0].message.content, reply.usage.chip["cycles"]

    alone = [text(request) for request in requests]
    stop = threading.Event()

    def disturb():
        while not stop.is_set():
            chat(client, max_tokens=30, temperature=1.9)

    with ThreadPoolExecutor(8) as pool:
        noise = [pool.submit(disturb) for _ in range(2)]
        assert list(pool.map(text, requests)) == alone
        stop.set()
        for one in noise:
            one.result()


def test_the_context_ends_an_answer(client):
    reply = chat(client, max_tokens=1000, extra_body={"ignore_eos": True})
    assert reply.usage.total_tokens == CONTEXT + 1  # the last token is not in the SRAM
    assert reply.choices[0].finish_reason == "length"


@pytest.fixture
def llm(server, tmp_path):
    """Run the `llm` command with a model that this server answers for."""
    pytest.importorskip("llm")
    models = [
        {"model_id": name, "model_name": model, "api_base": f"{server.url}/v1"}
        for name, model in (("chip", "tiny"), ("other", "nothing-like-it"))
    ]
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(models))  # JSON is YAML
    environment = {**os.environ, "LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "any"}
    environment["LLM_LOAD_PLUGINS"] = ""  # the small model is one, of a library that is not here

    def run(*arguments: str, **more):
        command = [sys.executable, "-m", "llm", *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, **more
        )

    return run


@pytest.mark.parametrize("more", [[], ["--no-stream"]], ids=["stream", "whole"])
def test_the_llm_command(server, llm, more):
    options = ["-o", "max_tokens", "12", "-o", "temperature", "1.5", "-o", "seed", "3"]
    done = llm("-m", "chip", "hi", *options, *more)
    assert done.returncode == 0, done.stderr
    reply = server.chat(max_tokens=12, temperature=1.5, seed=3)
    assert done.stdout.strip() == reply["choices"][0]["message"]["content"].strip()


def test_the_llm_command_goes_on_with_a_conversation(server, llm):
    first = llm("-m", "chip", "hi", "-o", "max_tokens", "5").stdout
    second = llm("-c", "more", "-o", "max_tokens", "5")
    assert second.returncode == 0, second.stderr
    turns = [*MESSAGES, {"role": "assistant", "content": first.removesuffix("\n")}]
    turns.append({"role": "user", "content": "more"})
    expected = server.chat(messages=turns, max_tokens=5)["choices"][0]["message"]["content"]
    assert second.stdout.strip() == expected.strip()


def test_the_llm_command_shows_an_error(llm):
    done = llm("-m", "other", "hi")
    assert done.returncode == 1
    assert "this chip holds 'tiny'" in done.stderr

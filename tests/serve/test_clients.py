"""Each public client against the server it was written for, over a real socket."""

from __future__ import annotations

import json

import pytest

from tests.support.serve_process import MESSAGES, compile_served, serving

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"enum": ["Bern", "Rome"]}},
    "required": ["city"],
}
WEATHER = {"name": "weather", "description": "weather of a city", "parameters": PARAMETERS}
TOOL = {"type": "function", "function": WEATHER}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Of the tiny model, each of whose tokens is a byte, with room for the words about tools."""
    image = compile_served(tmp_path_factory.mktemp("clients"), context=1024)
    with serving(image, "--max-tokens", "120") as server:
        yield server


@pytest.fixture(scope="module")
def openai_client(server):
    openai = pytest.importorskip("openai")
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0, timeout=60)


def is_weather(name: str, arguments: object) -> bool:
    """Whether a call is one that the schema allows."""
    return name == "weather" and arguments in ({"city": "Bern"}, {"city": "Rome"})


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": WEATHER}])
def test_openai_calls_a_tool_and_goes_on_with_its_result(openai_client, choice):
    ask = {"model": "tiny", "messages": MESSAGES, "tools": [TOOL], "tool_choice": choice}
    reply = openai_client.chat.completions.create(**ask).choices[0]
    assert reply.finish_reason == "tool_calls"
    (call,) = reply.message.tool_calls
    assert is_weather(call.function.name, json.loads(call.function.arguments))
    said = reply.message.model_dump(exclude_none=True)
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    messages = [{"role": "user", "content": "x"}, said, result]
    more = openai_client.chat.completions.create(
        model="tiny", messages=messages[-2:], max_tokens=5, tool_choice="none", tools=[TOOL]
    )
    assert more.choices[0].message.tool_calls is None
    assert more.choices[0].finish_reason in ("length", "stop")


def test_openai_streams_a_call(openai_client):
    ask = {"model": "tiny", "messages": MESSAGES, "tools": [TOOL], "tool_choice": "required"}
    events = list(openai_client.chat.completions.create(**ask, stream=True))
    (call,) = [c for e in events for c in e.choices[0].delta.tool_calls or []]
    assert is_weather(call.function.name, json.loads(call.function.arguments))
    assert events[-1].choices[0].finish_reason == "tool_calls"


def test_openai_may_answer_with_text_beside_tools(openai_client):
    """What is no whole call is text, streamed or not."""
    ask = {"model": "tiny", "messages": MESSAGES, "tools": [TOOL], "max_tokens": 9}
    for choice in ("auto", "none"):
        whole = openai_client.chat.completions.create(**ask, tool_choice=choice).choices[0]
        events = openai_client.chat.completions.create(**ask, tool_choice=choice, stream=True)
        text = "".join(e.choices[0].delta.content or "" for e in events)
        assert text == whole.message.content
        assert "<tool_call>" not in text


def test_openai_responses(openai_client):
    ask = {"model": "tiny", "input": "hi", "max_output_tokens": 9}
    whole = openai_client.responses.create(**ask)
    chat = openai_client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=9)
    assert whole.output_text == chat.choices[0].message.content
    assert (whole.status, whole.usage.output_tokens) == ("incomplete", 9)
    events = list(openai_client.responses.create(**ask, stream=True))
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == whole.output_text == events[-1].response.output_text
    tool = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}
    called = openai_client.responses.create(
        model="tiny", input="hi", tools=[tool], tool_choice="required"
    ).output[0]
    assert is_weather(called.name, json.loads(called.arguments))
    result = {"type": "function_call_output", "call_id": called.call_id, "output": "sunny"}
    more = openai_client.responses.create(
        model="tiny", input=[called.model_dump(), result], max_output_tokens=3
    )
    assert more.output[0].type == "message"


def test_openai_embeddings(openai_client):
    """Unit vectors, equal for equal texts; the client asks for base64 by default."""
    reply = openai_client.embeddings.create(model="tiny", input=["ab", "cd", "ab"])
    first, other, again = (one.embedding for one in reply.data)
    assert sum(x * x for x in first) == pytest.approx(1, abs=1e-5)
    assert first == again != other
    plain = openai_client.embeddings.create(model="tiny", input="ab", encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(first)
    assert "mean" in reply.pooling


def test_ollama(server):
    ollama = pytest.importorskip("ollama")
    client = ollama.Client(host=server.url)
    assert client.list().models[0].model == "tiny:latest"
    shown = client.show("tiny")
    assert shown.details.family == "llama"
    assert "tools" in shown.capabilities
    wishes = {"num_predict": 9}
    direct = server.chat(max_tokens=9)["choices"][0]["message"]["content"]
    said = client.chat("tiny", MESSAGES, options=wishes)
    assert (said.message.content, said.eval_count, said.done_reason) == (direct, 9, "length")
    assert said.total_duration > said.eval_duration > 0
    pieces = list(client.chat("tiny:latest", MESSAGES, options=wishes, stream=True))
    assert "".join(piece.message.content for piece in pieces) == direct
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert client.generate("tiny", "hi", options=wishes).response == direct
    raw = client.generate("tiny", "hi", options=wishes, raw=True)
    assert raw.prompt_eval_count == 2
    shape = {"type": "object", "properties": {"n": {"enum": [1]}}, "required": ["n"]}
    shape["additionalProperties"] = False
    assert json.loads(client.generate("tiny", "hi", format=shape).response) == {"n": 1}
    assert client.chat("tiny", MESSAGES, tools=[TOOL], options=wishes).message.role == "assistant"
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat("nothing-like-it", MESSAGES)
    assert caught.value.status_code == 404


def test_anthropic(server):
    anthropic = pytest.importorskip("anthropic")
    client = anthropic.Anthropic(base_url=server.url, api_key="any", max_retries=0)
    ask = {"model": "tiny", "messages": MESSAGES, "max_tokens": 9}
    direct = server.chat(max_tokens=9)["choices"][0]["message"]["content"]
    said = client.messages.create(**ask)
    assert (said.content[0].text, said.stop_reason) == (direct, "max_tokens")
    assert said.usage.output_tokens == 9
    assert client.messages.count_tokens(**_without(ask, "max_tokens")).input_tokens == (
        said.usage.input_tokens
    )
    with client.messages.stream(**ask) as stream:
        assert "".join(stream.text_stream) == direct
        assert stream.get_final_message().stop_reason == "max_tokens"
    stopped = client.messages.create(**ask, stop_sequences=[direct[3]])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", direct[3])
    tool = {"name": "weather", "input_schema": PARAMETERS}
    more = {"tools": [tool], "tool_choice": {"type": "any"}}
    called = client.messages.create(**(ask | {"max_tokens": 100}), **more)
    assert called.stop_reason == "tool_use"
    (block,) = called.content
    assert is_weather(block.name, block.input)
    with client.messages.stream(**(ask | {"max_tokens": 100}), **more) as stream:
        assert stream.get_final_message().content[0].input == block.input
    result = {"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}
    turns = [
        {"role": "assistant", "content": called.content},
        {"role": "user", "content": [result]},
    ]
    assert client.messages.create(model="tiny", messages=turns, max_tokens=3).content
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**(ask | {"model": "claude-x"}))
    with pytest.raises(anthropic.BadRequestError, match=r"max_tokens"):
        client.messages.create(**(ask | {"max_tokens": 0}))


def _without(fields: dict, name: str) -> dict:
    return {key: value for key, value in fields.items() if key != name}


def test_langchain_binds_tools(server):
    langchain_openai = pytest.importorskip("langchain_openai")
    model = langchain_openai.ChatOpenAI(
        model="tiny", base_url=f"{server.url}/v1", api_key="any", max_retries=0, max_tokens=100
    )
    called = model.bind_tools([TOOL], tool_choice="weather").invoke("hi")
    (call,) = called.tool_calls
    assert is_weather(call["name"], call["args"])
    streamed = list(model.bind_tools([TOOL], tool_choice="any").stream("hi"))
    whole = streamed[0]
    for chunk in streamed[1:]:
        whole += chunk
    assert whole.tool_calls[0]["args"] == call["args"]
    direct = server.chat(max_tokens=100)["choices"][0]["message"]["content"]
    assert model.invoke("hi").content == direct


@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama_chat"])
def test_litellm(server, provider, monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it asks the network
    litellm = pytest.importorskip("litellm")
    base = f"{server.url}/v1" if provider == "openai" else server.url
    reply = litellm.completion(
        model=f"{provider}/tiny", messages=MESSAGES, api_base=base, api_key="any", max_tokens=9
    )
    direct = server.chat(max_tokens=9)["choices"][0]["message"]["content"]
    assert reply.choices[0].message.content == direct
    assert reply.usage.completion_tokens == 9

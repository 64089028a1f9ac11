"""Tools, prefill, penalties and scored prompts over HTTP, and what is refused of them."""

from __future__ import annotations

import json

import pytest

from emulator.chat.tools import BARE, TAGGED, Call
from emulator.serve.penalties import ONE, Penalties
from tests.support.serve_process import MESSAGES, compile_served, serving

TEMPLATE = (
    "{% if messages[0].content == 'loop' %}{% for i in range(90000) %}{% for j in range(90000) %}"
    "{% endfor %}{% endfor %}{% elif messages[0].content == 'raise' %}"
    "{{ raise_exception('never') }}{% elif messages[0].content == 'reach' %}"
    "{{ messages.__class__.__mro__ }}{% endif %}"
    "{{ '<|im_start|>system\n' }}{{ tools | length }} <tool_call> tools{{ '<|im_end|>\n' }}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PARAMETERS = {
    "type": "object",
    "properties": {"n": {"enum": [1, 2]}, "list": {"type": "array", "items": {"const": "a"}}},
    "required": ["n", "list"],
}


def tool(name: str = "f", **more: object) -> dict:
    return {"type": "function", "function": {"name": name, "parameters": PARAMETERS, **more}}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Of a model whose checkpoint has a template with tools."""
    folder = tmp_path_factory.mktemp("tools")
    image = compile_served(folder, context=1024, chat_template=TEMPLATE)
    with serving(image, "--max-tokens", "200") as server:
        yield server


def refused(server, path="/v1/chat/completions", **fields):
    """The error's field and words; the server goes on."""
    reply = server.post(path, {"messages": MESSAGES, **fields})
    assert 400 <= reply.status_code < 500, reply.text
    assert server.chat(max_tokens=1)["usage"]["completion_tokens"] == 1
    error = reply.json()["error"]
    assert "\n" not in error["message"]
    return error["param"], error["message"]


def test_the_checkpoints_own_template_tells_of_tools(server):
    asked = {"messages": MESSAGES, "tools": [tool(), tool("g")]}
    counted = server.post("/tokenize", asked).json()
    said = server.post("/detokenize", {"tokens": counted["tokens"]}).json()["prompt"]
    assert said == "system\n2 <tool_call> tools\nuser\nhi\nassistant\n"
    usage = server.chat(**asked, max_tokens=1)["usage"]
    assert usage["prompt_tokens"] == counted["count"]


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_a_call_is_one_that_was_offered(server, temperature):
    asked = {"tools": [tool(), tool("g")], "tool_choice": "required", "temperature": temperature}
    for seed in range(3):
        reply = server.chat(**asked, seed=seed)["choices"][0]
        if reply["finish_reason"] == "length":  # a list may grow beyond any limit
            continue
        (call,) = reply["message"]["tool_calls"]
        arguments = json.loads(call["function"]["arguments"])
        assert call["function"]["name"] in ("f", "g")
        assert set(arguments) == {"n", "list"}
        assert arguments["n"] in (1, 2)
        assert set(arguments["list"]) <= {"a"}


@pytest.mark.parametrize("form", [TAGGED, BARE], ids=["tagged", "bare"])
@pytest.mark.parametrize("choice", ["auto", "none", "required", "g"])
def test_what_the_grammar_takes(tiny_image, form, choice):
    """Calls of what was chosen, and nothing that only looks like a call."""
    from llguidance import LLMatcher

    from emulator.chat.template import read_tokenizer
    from emulator.chat.tools import Tool
    from emulator.serve.grammar import Grammars
    from emulator.serve.tools import calling

    grammars = Grammars(tiny_image.tokenizer_json, tiny_image.config)
    tools = [Tool("f", "", {"properties": {"a/b": {"const": 1}}}), Tool("g", "", {})]
    called = calling(tools, choice, form, grammars, None)
    encode = read_tokenizer(tiny_image.tokenizer_json).encode

    def takes(text: str) -> bool:
        matcher, ids = LLMatcher(grammars.tokens, called.grammar), encode(text).ids
        return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()

    may_call = {"auto": "fg", "none": "", "required": "fg", "g": "g"}[choice]
    assert takes(form.text(Call("f", {"a/b": 1}))) is ("f" in may_call)
    assert takes(form.text(Call("g", {}))) is ("g" in may_call)
    assert not takes(form.text(Call("g", {"x": 1})))
    assert not takes(form.text(Call("h", {})))
    assert takes("Hello, <b>\nyou {") is (choice in ("auto", "none"))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": 7}, "tools"),
        ({"tools": [7]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [tool("no spaces")]}, "tools[0].function.name"),
        ({"tools": [tool(), tool()]}, "tools[1].function.name"),
        ({"tools": [tool(parameters=7)]}, "tools[0].function.parameters"),
        ({"tools": [tool(parameters={"type": "q"})]}, "tools[0].function.parameters.type"),
        ({"tools": [tool(parameters={"type": "array"})]}, "tools[0].function.parameters.type"),
        (
            {"tools": [tool(parameters={"properties": {"a": {"type": "q"}}})]},
            "tools[0].function.parameters",
        ),
        (
            {"tools": [tool(parameters={"properties": {"a": {"$ref": "http://elsewhere/"}}})]},
            "tools[0].function.parameters",
        ),
        ({"tools": [tool()] * 129}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [tool()], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [tool()], "tool_choice": {"function": {"name": "g"}}}, "tool_choice"),
        ({"tools": [tool()], "response_format": {"type": "json_object"}}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
    ],
    ids=lambda value: json.dumps(value)[:50],
)
def test_tools_that_are_none(server, fields, param):
    told, message = refused(server, **fields)
    assert told == param
    assert param in message


def test_calls_and_results_that_are_none(server):
    call = {"function": {"name": "f", "arguments": "[1]"}}
    said = {"role": "assistant", "tool_calls": [call]}
    where = "messages[1].tool_calls[0].function.arguments"
    result = {"role": "tool", "content": "x"}
    assert refused(server, messages=[*MESSAGES, said, result])[0] == where
    call["function"]["arguments"] = "{}"
    assert refused(server, messages=[*MESSAGES, said])[0] == "messages"
    assert refused(server, messages=[{**said, "role": "user"}])[0] == "messages[0].tool_calls"
    large = {"role": "tool", "tool_call_id": "x", "content": "z" * (10 << 20)}
    reply = server.post("/v1/chat/completions", {"messages": [*MESSAGES, said, large]})
    assert reply.status_code == 413
    assert "524,288" in reply.json()["error"]["message"]


@pytest.mark.parametrize("word", ["loop", "raise", "reach"])
def test_a_template_that_loops_raises_or_reaches_out(server, word):
    """Others are answered while it loops, and after."""
    messages = [{"role": "user", "content": word}]
    param, message = refused(server, messages=messages, tools=[tool()])
    assert param == "messages"
    assert "the chat template" in message
    without_tools = server.chat(messages=messages, max_tokens=1)  # the format of its style
    assert without_tools["usage"]["completion_tokens"] == 1


def test_an_answer_that_was_begun_goes_on(server):
    whole = server.chat(max_tokens=12)["choices"][0]["message"]["content"]
    begun = [*MESSAGES, {"role": "assistant", "content": whole[:5]}]
    if len(whole.encode()) == 12:  # a token is a byte here
        more = server.chat(messages=begun, max_tokens=7)["choices"][0]["message"]["content"]
        assert whole[:5] + more == whole


def test_penalties_change_what_is_picked_and_are_named(server):
    plain = server.chat(max_tokens=12)
    worn = server.chat(max_tokens=12, frequency_penalty=2, presence_penalty=1)
    assert worn["parameters"]["host_options"] == ["frequency_penalty", "presence_penalty"]
    told = server.chat(max_tokens=3, logit_bias={"65": 100})
    assert len(set(told["choices"][0]["message"]["content"])) == 1
    assert told["parameters"]["host_options"] == ["logit_bias"]
    banned = {str(token): -100 for token in range(320) if token != 66}
    only = server.chat(max_tokens=3, logit_bias=banned, temperature=1)
    assert len(set(only["choices"][0]["message"]["content"])) == 1
    assert (
        server.chat(max_tokens=12, frequency_penalty=0, logit_bias={})["choices"]
        == (plain["choices"])
    )


def test_penalties_by_hand():
    """Logits in Q15.16: repetition first, then bias, presence and frequency."""
    import numpy as np

    logits = np.array([2 * ONE, -2 * ONE, ONE, 0], np.int32)
    penalties = Penalties(frequency=0.5, presence=1.0, repetition=2.0, bias=((3, -1.5),))
    bias = penalties.over([0, 1], 4)
    assert bias.applied(logits).tolist() == [ONE, -4 * ONE, ONE, -3 * ONE // 2]
    bias.took(2)
    bias.took(2)
    assert bias.applied(logits).tolist() == [ONE, -4 * ONE, ONE // 2 - 2 * ONE, -3 * ONE // 2]


def test_a_prompt_is_scored(server):
    """Token by token what the model gives to it when it answers; the first has no probability."""
    ask = {"prompt": "abcdef", "max_tokens": 1, "logprobs": 5}
    scored = server.post("/v1/completions", {**ask, "echo": True}).json()["choices"][0]
    chances = scored["logprobs"]
    assert chances["tokens"][:6] == list("abcdef")
    assert scored["text"].startswith("abcdef")
    assert chances["token_logprobs"][0] is None is chances["top_logprobs"][0]
    for at in range(1, 6):
        single = server.post("/v1/completions", {**ask, "prompt": "abcdef"[:at]}).json()
        told = single["choices"][0]["logprobs"]["top_logprobs"][0]
        assert chances["top_logprobs"][at] == told
    assert len(chances["tokens"]) == 7
    alone = {**ask, "echo": True, "max_tokens": 0, "prompt": ["abcdef", "ab"]}
    both = server.post("/v1/completions", alone).json()
    assert [len(c["logprobs"]["tokens"]) for c in both["choices"]] == [6, 2]
    assert both["usage"]["completion_tokens"] == 0
    assert refused(server, "/v1/completions", **ask, echo=True, stream=True)[0] == "stream"

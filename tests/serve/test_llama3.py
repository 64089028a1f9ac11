"""A model with Llama 3's chat format behind the server: where its texts begin."""

from __future__ import annotations

import json

import pytest
from tokenizers import AddedToken, Tokenizer, processors

from tests.support.serve_process import MESSAGES, compile_served, serving
from tests.support.tiny_model import tiny_tokenizer

BEGIN = "<|begin_of_text|>"
SPECIAL = [BEGIN, "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
BEGIN_ID, EOT_ID = 256, 260


def llama3_tokenizer() -> str:
    """The tiny one with Llama 3's special tokens, which would put a begin token by itself, too."""
    values = json.loads(tiny_tokenizer())
    values["added_tokens"] = []
    tokenizer = Tokenizer.from_str(json.dumps(values))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(
        f"{BEGIN} $A", f"{BEGIN} $A {BEGIN} $B", [(BEGIN, BEGIN_ID)]
    )
    return str(tokenizer.to_str())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama3")
    with serving(compile_served(folder, EOT_ID, llama3_tokenizer())) as server:
        yield server


def ids(text: str) -> list[int]:
    """Tokens of what somebody typed: none of them is special."""
    tokenizer = Tokenizer.from_str(llama3_tokenizer())
    tokenizer.encode_special_tokens = True
    found = tokenizer.encode(text, add_special_tokens=False).ids
    assert all(token < BEGIN_ID for token in found)
    return found


def completion(server, path: str, prompt, **more):
    """Log probabilities, text and number of prompt tokens of an answer to a raw prompt."""
    reply = server.post(path, {"prompt": prompt, **more})
    assert reply.status_code == 200, reply.text
    choice, usage = reply.json()["choices"][0], reply.json()["usage"]
    return choice["logprobs"]["token_logprobs"], choice["text"], usage["prompt_tokens"]


@pytest.mark.parametrize("text", ["hi", "Once upon a time", f"{BEGIN}hi", f"{BEGIN}{BEGIN}"])
def test_a_raw_text_begins_once(server, text):
    """As the same tokens do when they are given by number; what is typed is text."""
    tokens = [BEGIN_ID, *ids(text)]

    def numbered(prompt):
        return completion(server, "/v1/completions", prompt, max_tokens=9, logprobs=0)

    expected = numbered(tokens)
    assert expected[2] == 1 + len(text)
    assert numbered(text) == expected
    vendor = {"max_output_tokens": 9, "logprobs": True}
    assert completion(server, "/generate", text, **vendor) == expected
    without, twice = numbered(tokens[1:]), numbered([BEGIN_ID, *tokens])
    assert [without[2], twice[2]] == [len(text), 2 + len(text)]  # ids are taken as they are
    assert expected[0] not in (without[0], twice[0])


def test_a_chat_begins_once(server):
    heads = 3 * (2 + 2)  # three turns' header marks and two line ends
    roles = len("system") + len("user") + len("assistant")
    dates = len("Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n")
    expected = 1 + heads + roles + dates + len("hi") + 2  # two turns are closed
    assert server.chat(max_tokens=1)["usage"]["prompt_tokens"] == expected
    raw = {"prompt": MESSAGES, "max_output_tokens": 1}
    assert server.post("/generate", raw).json()["usage"]["prompt_tokens"] == expected

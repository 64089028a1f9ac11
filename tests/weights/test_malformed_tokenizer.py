"""Tokenizers that would act otherwise than a model was trained with: refused, or made to act alike.

Each is one change of a `tokenizer.json` that the library itself would take.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from emulator.chat.template import chat_format, chat_of
from emulator.chat.tokenizer import SHORT_TEXT, decoded, encoded, read_tokenizer
from emulator.errors import UnsupportedError
from tests.support.refusals import leaves_nothing, refused
from tests.support.tiny_model import compile_broken, tiny_tokenizer
from weights.tokenizer_json import last_token, longest_token

BERT = {"type": "BertProcessing", "sep": ["x", 1], "cls": ["y", 2]}
PRECOMPILED = {"type": "Precompiled", "precompiled_charsmap": "AA=="}
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
COMPONENTS: dict[str, tuple[str, Any]] = {
    "normaliser of BERT": ("normalizer", {"type": "BertNormalizer"}),
    "normaliser with a table": ("normalizer", PRECOMPILED),
    "normaliser of accents": ("normalizer", {"type": "StripAccents"}),
    "normaliser of nothing": ("normalizer", {"type": "Nmt"}),
    "normaliser of bytes": ("normalizer", {"type": "ByteLevel"}),
    "normaliser without a type": ("normalizer", {}),
    "normaliser is text": ("normalizer", "NFC"),
    "normaliser is a list": ("normalizer", [{"type": "NFC"}]),
    "normaliser's type is a list": ("normalizer", {"type": ["NFC"]}),
    "one of a sequence": (
        "normalizer",
        {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Nmt"}]},
    ),
    "sequence is no list": ("normalizer", {"type": "Sequence", "normalizers": {"type": "NFC"}}),
    "sequence of texts": ("normalizer", {"type": "Sequence", "normalizers": ["NFC"]}),
    "words of BERT": ("pre_tokenizer", {"type": "BertPreTokenizer"}),
    "words by letter": ("pre_tokenizer", {"type": "CharDelimiterSplit", "delimiter": "a"}),
    "words by script": ("pre_tokenizer", {"type": "UnicodeScripts"}),
    "words of a length": ("pre_tokenizer", {"type": "FixedLength", "length": 5}),
    "words in a sequence": (
        "pre_tokenizer",
        {"type": "Sequence", "pretokenizers": [{"type": "UnicodeScripts"}]},
    ),
    "ends of BERT": ("post_processor", BERT),
    "ends of RoBERTa": ("post_processor", {**BERT, "type": "RobertaProcessing"}),
    "decoder of speech": ("decoder", {"type": "CTC", "pad_token": "a", "cleanup": True}),
    "decoder of WordPiece": ("decoder", {"type": "WordPiece", "prefix": "##", "cleanup": True}),
    "decoder of suffixes": ("decoder", {"type": "BPEDecoder", "suffix": "</w>"}),
    "decoder takes a million": ("decoder", {**STRIP, "start": 10**6}),
    "decoder takes from the end": ("decoder", {**STRIP, "stop": 10**18}),
    "decoder takes less than none": ("decoder", {**STRIP, "stop": -1}),
    "decoder takes by half": ("decoder", {**STRIP, "start": 0.5}),
    "added tokens are an object": ("added_tokens", {"id": 1, "content": "x"}),
    "added token is text": ("added_tokens", ["x"]),
    "added token without an id": ("added_tokens", [{"content": "x", "special": False}]),
    "added token's id is text": ("added_tokens", [{"id": "1", "content": "x"}]),
    "added token's id is true": ("added_tokens", [{"id": True, "content": "x"}]),
    "added token without content": ("added_tokens", [{"id": 1}]),
    "unknown key": ("alchemy", {"type": "Gold"}),
    "random seed": ("seed", 7),
}
MODELS: dict[str, dict[str, Any]] = {
    "dropout": {"dropout": 0.1},
    "dropout of all": {"dropout": 1.0},
    "dropout is text": {"dropout": "0.1"},
    "prefix": {"continuing_subword_prefix": "##"},
    "suffix": {"end_of_word_suffix": "</w>"},
    "cache": {"cache_capacity": 10**9},
    "vocabulary is a list": {"vocab": ["a"]},
    "vocabulary's id is text": {"vocab": {"a": "0"}},
    "vocabulary's id is a half": {"vocab": {"a": 0.5}},
    "other model": {"type": "Unigram"},
    "words": {"type": "WordLevel"},
    "pieces": {"type": "WordPiece"},
    "random pieces": {"nbest_size": 64},
    "noise": {"alpha": 0.1},
}


def changed(key: str, value: Any) -> str:
    return json.dumps({**json.loads(tiny_tokenizer()), key: value})


@pytest.mark.parametrize(("key", "value"), COMPONENTS.values(), ids=COMPONENTS)
def test_components(key, value):
    refused(UnsupportedError, key, lambda: read_tokenizer(changed(key, value)))


@pytest.mark.parametrize("value", [{"id": 1}, ["x"], [{"content": "x"}]])
def test_an_image_whose_tokens_are_none(value, tiny_image):
    """Damaged behind the compiler's back; the fuzzer found one without an id."""
    image = replace(tiny_image, tokenizer_json=changed("added_tokens", value))
    refused(UnsupportedError, "added_tokens", lambda: chat_of(image))


@pytest.mark.parametrize("change", MODELS.values(), ids=MODELS)
def test_models(change):
    model = {**json.loads(tiny_tokenizer())["model"], **change}
    refused(UnsupportedError, "model", lambda: read_tokenizer(changed("model", model)))


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "null", "{", '{"model": 1, "model": 2}', "[" * 9999]
)
def test_no_object(text):
    refused(UnsupportedError, "malformed or unknown", lambda: read_tokenizer(text))


def test_sequences_within_sequences():
    deep: dict[str, Any] = {"type": "NFC"}
    for _ in range(100):
        deep = {"type": "Sequence", "normalizers": [deep]}
    refused(UnsupportedError, "normalizer", lambda: read_tokenizer(changed("normalizer", deep)))


FIXED = {"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_id": 0, "pad_type_id": 0}
ACTING = {
    "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
    "padding": {**FIXED, "pad_to_multiple_of": None, "pad_token": "x"},
    "padding of a batch": {**FIXED, "strategy": "BatchLongest", "pad_token": "x"},
}


@pytest.mark.parametrize("name", ACTING)
def test_what_must_not_act_does_not(name):
    """No text is cut, and none is filled up to a billion tokens."""
    plain = read_tokenizer(tiny_tokenizer())
    tokenizer = read_tokenizer(changed(name.partition(" ")[0], ACTING[name]))
    for text in ("a longer text", "x" * (SHORT_TEXT + 1)):
        assert encoded(tokenizer, text) == encoded(plain, text)


def test_the_compiler_refuses_it_before_it_works(checkpoint):
    path = checkpoint / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["dropout"] = 0.1
    path.write_text(json.dumps(values))
    refused(UnsupportedError, "model.dropout = 0.1", lambda: compile_broken(checkpoint))
    assert leaves_nothing(checkpoint)


def test_a_long_text_has_the_tokens_of_a_short_one(tiny_image):
    """It goes another way, which leaves the interpreter to others."""
    chat = chat_format(tiny_image.tokenizer_json, "plain")
    text = "The cat, é 42!\n" * SHORT_TEXT
    tokens = list(chat.tokenizer.encode(text, add_special_tokens=False).ids)
    assert chat.encode(text) == tokens
    assert chat.decode(tokens) == text


def test_a_token_without_a_row(tiny_image):
    """A text could become it; a control token can not."""
    values = json.loads(tiny_image.tokenizer_json)
    rows = tiny_image.config.vocabulary
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    word = {"id": rows, "content": "word", "special": False, **flags}
    values["added_tokens"].append({**word, "special": True})
    assert last_token(json.dumps(values)) < rows
    values["added_tokens"][-1] = word
    assert last_token(json.dumps(values)) == rows

    class Wider:
        tokenizer_json, config = json.dumps(values), tiny_image.config
        manifest = tiny_image.manifest

    refused(UnsupportedError, f"tokens up to {rows}", lambda: chat_of(Wider()))


def test_the_longest_token_is_known_only_where_no_text_can_vanish():
    assert longest_token(tiny_tokenizer()) == len("<|im_start|>")
    assert longest_token(changed("normalizer", {"type": "NFC"})) == 4 * len("<|im_start|>")
    stripping = {"type": "Strip", "strip_left": True, "strip_right": True}
    assert longest_token(changed("normalizer", stripping)) is None
    assert longest_token(changed("pre_tokenizer", None)) is None


class Panics:
    """What the library's own class does when its Rust panics."""

    def __getattr__(self, name: str) -> Any:
        kind = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})

        def fails(*args: Any, **more: Any) -> None:
            raise kind("slice index out of range\nnote: backtrace")

        return fails


@pytest.mark.parametrize("text", ["short", "x" * (SHORT_TEXT + 1)])
def test_a_panic_is_an_error_of_one_line(text):
    message = "the tokenizer cannot do that: slice index out of range$"
    refused(UnsupportedError, message, lambda: encoded(Panics(), text))
    refused(UnsupportedError, message, lambda: decoded(Panics(), [1]))

"""Tokenizers of GGUF files: how each flavour cuts a text, and which tokens are whole."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, pre_tokenizers

from emulator.errors import CheckpointError, UnsupportedError
from tests.support.refusals import refused
from weights.bpe import CONTROL, USER_DEFINED, byte_level_tokenizer

TEXT = "It's HttpRequest 2024\n\n  ok()/"
WORDS = {
    "gpt-2": ["It", "'s", " HttpRequest", " 2024", "\n\n ", " ok", "()/"],
    "smollm": ["It", "'s", " HttpRequest", " ", "2", "0", "2", "4", "\n\n ", " ok", "()/"],
    "qwen2": ["It", "'s", " HttpRequest", " ", "2", "0", "2", "4", "\n\n", " ", " ok", "()/"],
    "llama-bpe": ["It", "'s", " HttpRequest", " ", "202", "4", "\n\n", " ", " ok", "()/"],
    "tekken": ["It", "'s", " Http", "Request", " ", "2", "0", "2", "4", "\n\n", " ", " ok", "()/"],
}
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())


def made(flavour: str) -> Tokenizer:
    tokens = [*LETTERS, "ab", "<end>", "<think>"]
    types = [*[1] * 257, CONTROL, USER_DEFINED]
    return Tokenizer.from_str(byte_level_tokenizer(tokens, types, ["a b"], flavour))


@pytest.mark.parametrize("flavour", WORDS)
def test_words(flavour):
    cut = made(flavour).pre_tokenizer.pre_tokenize_str(TEXT)
    assert [TEXT[begin:end] for _, (begin, end) in cut] == WORDS[flavour]


@pytest.mark.parametrize("flavour", WORDS)
def test_tokens(flavour):
    """Merges apply, special tokens and whole ones are found in a text, and it comes back."""
    tokenizer = made(flavour)
    ids = tokenizer.encode("xab<think>ab<end>", add_special_tokens=False).ids
    assert ids == [LETTERS.index("x"), 256, 258, 256, 257]
    assert tokenizer.decode(ids) == "xab<think>ab"
    assert tokenizer.decode(tokenizer.encode(TEXT).ids) == TEXT


def test_refused():
    refused(UnsupportedError, "pre-tokenizer 'mamba'", lambda: made("mamba"))
    short = lambda: byte_level_tokenizer(LETTERS, [1], [], "qwen2")  # noqa: E731
    refused(CheckpointError, "token types differ in length", short)

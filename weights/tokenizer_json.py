"""What a `tokenizer.json` may ask of the tokenizers library: known components, nothing random.

A tokenizer is a small program by whoever made the checkpoint. What would make its output random or
shorter, or what nobody here has looked at, is refused before the library reads it. `truncation` and
`padding` are settings of training runs: whoever loads the tokenizer clears them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from emulator.errors import UnsupportedError
from emulator.fields import parse_json, shown

WHERE = "tokenizer.json is malformed or unknown"
KNOWN = {  # types of components, by the key that they stand under
    "normalizer": {"NFC", "NFKC", "NFD", "NFKD", "Prepend", "Replace", "Lowercase", "Strip"},
    "pre_tokenizer": {
        *("ByteLevel", "Digits", "Split", "Metaspace", "Punctuation"),
        *("Whitespace", "WhitespaceSplit"),
    },
    "post_processor": {"ByteLevel", "TemplateProcessing"},
    "decoder": {"ByteLevel", "Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"},
}
PARTS = ("normalizers", "pretokenizers", "processors", "decoders")  # of a Sequence
KEYS = {"version", "truncation", "padding", "added_tokens", "model", *KNOWN}
MODEL_NEUTRAL = {  # values of a model's keys that ask for nothing
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
}
MODEL_KEYS = {
    *("type", "vocab", "merges", "unk_token", "fuse_unk", "byte_fallback", "ignore_merges"),
    *MODEL_NEUTRAL,
}
MOST_STRIPPED = 16  # characters, by a decoder; the known ones take one
MOST_DEEP = 8  # Sequences in Sequences
NO_TOKENIZER = "{}"  # an image of a checkpoint without one runs token ids alone
SHRINKS = 4  # characters that a composition (NFC) may make one of, at most three, and some room


def check_tokenizer(tokenizer_json: str) -> None:
    """Raise UnsupportedError, naming the key, for a component or a setting that is not known."""
    values = _object(tokenizer_json)
    for key in values:
        if key not in KEYS:
            raise _unknown(key, values[key])
    model = values.get("model")
    if not isinstance(model, Mapping) or model.get("type", "BPE") != "BPE":
        raise UnsupportedError(f"{WHERE}: model must be byte-pair encoding (BPE)")
    for key, value in model.items():
        if key not in MODEL_KEYS or value not in MODEL_NEUTRAL.get(key, (value,)):
            raise _unknown(f"model.{key}", value)
    _vocabulary(values)
    _added_tokens(values)
    for key, known in KNOWN.items():
        for part in _components(values.get(key), key):
            kind = part.get("type")
            if not isinstance(kind, str) or kind not in known:
                raise _unknown(f"{key}.type", kind)
            if key == "decoder" and kind == "Strip":
                _check_strip(part)


def longest_token(tokenizer_json: str) -> int | None:
    """Most characters that one token can stand for; None where a token can stand for any number."""
    values = _object(tokenizer_json)
    model, kinds = values["model"], {}
    for key in ("normalizer", "pre_tokenizer"):
        kinds[key] = {part.get("type") for part in _components(values.get(key), key)}
    composed = kinds["normalizer"] <= {"NFC"}
    if not composed or not (model.get("byte_fallback") or "ByteLevel" in kinds["pre_tokenizer"]):
        return None  # something may be taken away, or stand for an unknown word
    texts = [*_vocabulary(values), *(token["content"] for token in _added_tokens(values))]
    return max(map(len, texts), default=1) * (SHRINKS if kinds["normalizer"] else 1)


def last_token(tokenizer_json: str) -> int:
    """The largest id that a text can become, -1 without any: control tokens are none of it."""
    values = _object(tokenizer_json)
    ids = [*_vocabulary(values).values()]
    ids += [token["id"] for token in _added_tokens(values) if not token.get("special")]
    return max(ids, default=-1)


def _vocabulary(values: Mapping[str, Any]) -> Mapping[str, int]:
    """The ids of the model's tokens."""
    model = values.get("model")
    held = model.get("vocab", {}) if isinstance(model, Mapping) else {}
    if not isinstance(held, Mapping) or not all(type(i) is int for i in held.values()):
        raise UnsupportedError(f"{WHERE}: model.vocab is no object of whole numbers")
    return held


def _added_tokens(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Tokens beside the model's, each with its `id` and `content`."""
    held = values.get("added_tokens") or []
    if not isinstance(held, list):
        raise _unknown("added_tokens", held)
    for token in held:
        named = isinstance(token, Mapping) and isinstance(token.get("content"), str)
        if not named or type(token.get("id")) is not int:
            raise _unknown("added_tokens", token)
    return held


def _object(tokenizer_json: str) -> Mapping[str, Any]:
    try:
        values = parse_json(tokenizer_json)
    except (ValueError, RecursionError) as problem:
        raise UnsupportedError(f"{WHERE}: {problem}") from None
    if not isinstance(values, Mapping):
        raise UnsupportedError(f"{WHERE}: no object")
    return values


def _components(value: Any, where: str, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """The components of a chain, with what Sequences hold in their place."""
    if value is None:
        return
    if not isinstance(value, Mapping) or depth > MOST_DEEP:
        raise _unknown(where, value)
    if value.get("type") != "Sequence":
        yield value
        return
    for key in PARTS:
        parts = value.get(key, [])
        if not isinstance(parts, list):
            raise _unknown(f"{where}.{key}", parts)
        for part in parts:
            yield from _components(part, where, depth + 1)


def _check_strip(part: Mapping[str, Any]) -> None:
    for key in ("start", "stop"):
        count = part.get(key, 0)
        if not isinstance(count, int) or not 0 <= count <= MOST_STRIPPED:
            raise _unknown(f"decoder.{key}", count)


def _unknown(key: str, value: Any) -> UnsupportedError:
    return UnsupportedError(f"{WHERE}: {key} = {shown(value)}: what this does is not known")

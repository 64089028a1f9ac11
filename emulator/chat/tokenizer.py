"""The tokenizers library, with its settings cleared and its failures as errors of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tokenizers import Tokenizer

from emulator.errors import UnsupportedError
from weights.tokenizer_json import check_tokenizer

SHORT_TEXT = 4096  # characters that are encoded in a few milliseconds


def read_tokenizer(tokenizer_json: str) -> Tokenizer:
    """Load a `tokenizer.json`. Raises UnsupportedError if it is unknown or malformed."""
    check_tokenizer(tokenizer_json)
    try:
        with _panics_as_errors():
            tokenizer = Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # the Rust library raises plain Exception
        raise UnsupportedError(f"tokenizer.json is malformed or unknown: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encoded(tokenizer: Tokenizer, text: str) -> list[int]:
    """Text -> token ids, none added. A long text leaves the interpreter to other threads."""
    with _panics_as_errors():
        if len(text) > SHORT_TEXT:  # a batch of one lets the interpreter go, a single text does not
            return list(tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids)
        return list(tokenizer.encode(text, add_special_tokens=False).ids)


def decoded(tokenizer: Tokenizer, ids: list[int]) -> str:
    """Token ids -> text, without control tokens."""
    with _panics_as_errors():
        return str(tokenizer.decode(ids))


@contextmanager
def _panics_as_errors() -> Iterator[None]:
    """A panic of the library is no Exception, and would pass every handler of a thread."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        reason = str(error).splitlines()[0] if str(error) else "panic"
        raise UnsupportedError(f"the tokenizer cannot do that: {reason}") from None

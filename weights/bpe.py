"""Make a `tokenizer.json` from the vocabulary and merges in a GGUF file."""

from __future__ import annotations

from collections.abc import Sequence

from emulator.errors import CheckpointError, UnsupportedError

CONTROL = 3  # GGUF's token type of special tokens


def byte_level_tokenizer(
    tokens: list[str], types: Sequence[int], merges: list[str], flavour: str
) -> str:
    """Byte-level BPE with the pre-tokenizer that GGUF calls `flavour`, as JSON text.

    Raises UnsupportedError for another flavour, CheckpointError if the lists do not match.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    if flavour != "smollm":
        raise UnsupportedError(f"pre-tokenizer {flavour!r} of a GGUF file is not known")
    if len(types) != len(tokens):
        raise CheckpointError("the GGUF file's token list and token types differ in length")
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    try:
        vocabulary = {token: index for index, token in enumerate(tokens)}
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    except Exception as error:  # the Rust library raises plain Exception
        raise CheckpointError(f"the GGUF file's tokenizer is malformed: {error}") from None
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(tokens, types, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return tokenizer.to_str()

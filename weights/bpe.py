"""Make a `tokenizer.json` from the vocabulary and merges in a GGUF file."""

from __future__ import annotations

from collections.abc import Sequence

from emulator.errors import CheckpointError, UnsupportedError

CONTROL, USER_DEFINED = 3, 4  # GGUF's token types of special tokens, and of whole ones
LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
SIGNS = r" ?[^\s\p{L}\p{N}]+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*"
WITH_OWN_WORDS = ("smollm", "gpt-2", "default")  # byte-level BPE's own words
SPLITS = {  # how a flavour cuts text into words
    "qwen2": rf"{LETTERS}|\p{{N}}|{SIGNS}[\r\n]*|{REST}",
    "llama-bpe": rf"{LETTERS}|\p{{N}}{{1,3}}|{SIGNS}[\r\n]*|{REST}",
    "tekken": rf"{CASED}|\p{{N}}|{SIGNS}[\r\n/]*|{REST}",
}


def byte_level_tokenizer(
    tokens: list[str], types: Sequence[int], merges: list[str], flavour: str
) -> str:
    """Byte-level BPE with the pre-tokenizer that GGUF calls `flavour`, as JSON text.

    Raises UnsupportedError for another flavour, CheckpointError if the lists do not match.
    """
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
    )

    if flavour not in (*WITH_OWN_WORDS, *SPLITS):
        raise UnsupportedError(f"pre-tokenizer {flavour!r} of a GGUF file is not known")
    if len(types) != len(tokens):
        raise CheckpointError("the GGUF file's token list and token types differ in length")
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    try:
        vocabulary = {token: index for index, token in enumerate(tokens)}
        whole = flavour in ("llama-bpe", "tekken")  # a word that is a token is not merged anew
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=whole))
    except Exception as error:  # the Rust library raises plain Exception
        raise CheckpointError(f"the GGUF file's tokenizer is malformed: {error}") from None
    own_words = flavour in WITH_OWN_WORDS
    cuts: list[pre_tokenizers.PreTokenizer] = []
    if flavour == "smollm":
        cuts.append(pre_tokenizers.Digits(individual_digits=True))
    elif not own_words:
        cuts.append(pre_tokenizers.Split(Regex(SPLITS[flavour]), "isolated"))
    cuts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=own_words))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    if flavour == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(tokens, types, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    words = [t for t, kind in zip(tokens, types, strict=True) if kind == USER_DEFINED]
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in words])
    return str(tokenizer.to_str())

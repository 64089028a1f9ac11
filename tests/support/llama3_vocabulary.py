"""A `tokenizer.json` like Llama 3's, from the vocabulary that the package `llama-models` ships."""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors


def byte_letters() -> dict[int, str]:
    """The letter that byte-level BPE writes for each byte: itself where it can be seen."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {byte: chr(byte) for byte in seen}
    hidden = (byte for byte in range(256) if byte not in letters)
    return letters | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


def llama3_tokenizer() -> str:
    """128,000 tokens with every split of each into two others as its merges, then 256 special ones.

    Raises ImportError without `llama-models`.
    """
    from llama_models.llama3.tokenizer import Tokenizer as Theirs

    theirs = Theirs.get_instance()
    ranks: dict[bytes, int] = theirs.model._mergeable_ranks
    letters = byte_letters()
    words = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges = []
    for token in sorted(ranks, key=ranks.__getitem__):
        splits = [(token[:i], token[i:]) for i in range(1, len(token))]
        known = [pair for pair in splits if pair[0] in ranks and pair[1] in ranks]
        merges += sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
    bpe = models.BPE(
        vocab={words[token]: rank for token, rank in ranks.items()},
        merges=[(words[left], words[right]) for left, right in merges],
        ignore_merges=True,
    )
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(theirs.pat_str), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(t, special=True, normalized=False) for t in theirs.special_tokens]
    tokenizer.add_special_tokens(special)
    begin = "<|begin_of_text|>"
    tokenizer.post_processor = processors.TemplateProcessing(
        f"{begin} $A", f"{begin} $A {begin} $B", [(begin, theirs.bos_id)]
    )
    return tokenizer.to_str()

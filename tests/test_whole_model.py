"""The embedded model on the chip: near transformers, and the same bits however it runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from emulator.chip import Chip
from emulator.images.recipe import embedded_folder
from emulator.quality.evaluate import chip_logits, log_softmax
from emulator.quality.float_model import FloatModel
from kernels import compiled, reference
from tests.support.paths import DATA
from weights.rom import RomImage, open_image

FIXTURE = DATA / "reference_logits.npz"
PROMPTS = range(3)


@pytest.fixture(scope="module")
def image(default_home: Path) -> RomImage:
    return open_image(default_home / embedded_folder().name)


@pytest.fixture(scope="module")
def fixture() -> dict[str, np.ndarray]:
    with np.load(FIXTURE, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def masks(image: RomImage) -> FloatModel:
    return FloatModel.of_image(image)


def kl(log_p: np.ndarray, log_q: np.ndarray) -> float:
    return float((np.exp(log_p) * (log_p - log_q)).sum(axis=-1).mean())


def with_the_rest(top: np.ndarray) -> np.ndarray:
    """Log-probabilities of the top 20 and of all other tokens together."""
    rest = np.log1p(-np.exp(top).sum(axis=-1, keepdims=True).clip(max=1 - 1e-9))
    return np.concatenate([top, rest], axis=-1)


@pytest.mark.parametrize("i", PROMPTS)
def test_against_transformers(i, image, masks, fixture):
    """Quantiser and datapath apart, on the second half of a prompt, as `evaluate` scores.

    The fixture has 20 tokens a position; KL is over those and the rest, which never exceeds KL
    over all. Where the original's best token leads by less than a KL of 0.03 may shift a logit,
    another may win.
    """
    tokens = fixture[f"tokens_{i}"].tolist()
    scored = slice(len(tokens) // 2, None)
    original = with_the_rest(fixture[f"top_logprob_{i}"][scored].astype(np.float64))
    ids = fixture[f"top_ids_{i}"][scored].astype(np.int64)
    in_float = log_softmax(masks.forward(tokens)[scored])
    on_chip = log_softmax(chip_logits(Chip(image), tokens)[scored])
    quantised = with_the_rest(np.take_along_axis(in_float, ids, axis=-1))
    whole = with_the_rest(np.take_along_axis(on_chip, ids, axis=-1))
    assert kl(original, quantised) < 0.03  # of few positions; the contract is that of `eval`
    assert kl(in_float, on_chip) < 0.005
    assert kl(original, whole) < 0.035
    logits = fixture[f"logits_{i}"]
    second, first = np.sort(logits, axis=-1)[:, -2:].T
    same = on_chip[-len(logits) :].argmax(axis=-1) == logits.argmax(axis=-1)
    assert same[first - second > (2 * 0.03) ** 0.5].all()
    assert same.any()


def logits_hash(image: RomImage, tokens: list[int], cuts: list[int], ops=compiled) -> str:
    """Of all logits of tokens that enter in pieces, cut at `cuts`."""
    chip, digest = Chip(image, ops=ops), hashlib.sha256()
    for start, end in zip([0, *cuts], [*cuts, len(tokens)], strict=True):
        logits = chip.forward(tokens[start:end], all_logits=True).logits
        digest.update(logits.astype("<i4").tobytes())
    return digest.hexdigest()


def test_the_same_bits_however_it_runs(image, fixture):
    """One prefill, pieces, token by token; 1 to 4 threads."""
    tokens = fixture["tokens_0"].tolist()
    whole = logits_hash(image, tokens, [])
    before = compiled.team().threads
    try:
        for threads in (1, 2, 4):
            compiled.team().resize(threads)
            for cuts in ([], [1], [5, 6, 30], list(range(1, len(tokens)))):
                assert logits_hash(image, tokens, cuts) == whole
    finally:
        compiled.team().resize(before)


def test_the_twins_give_the_same_bits(image, fixture):
    tokens = fixture["tokens_0"].tolist()[:4]
    assert logits_hash(image, tokens, [3], reference) == logits_hash(image, tokens, [])

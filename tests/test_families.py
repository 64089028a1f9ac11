"""Each family over a short text: the float reference against transformers, the chip against it.

The expected logits come from tests/support/make_family_reference.py; the checkpoints are made here
again. Windows are narrower than the text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from emulator.chip import Chip
from emulator.quality.evaluate import Distance, chip_logits, log_softmax
from emulator.quality.float_model import FloatModel
from tests.support import make_family_reference as made
from tests.support.make_family_reference import FAMILIES, TOKENS, WINDOW, tokens
from tests.support.make_llama_reference import shard_sha256, summary
from weights.checkpoint import layer_vectors
from weights.compile import CompileOptions, compile_image
from weights.fold import Fold
from weights.layer_vectors import of_layer, real
from weights.mix import Mix
from weights.rom import RomImage, open_image
from weights.rope_table import frequencies
from weights.safetensors_source import SafetensorsCheckpoint

MOST_KL = 0.003  # the datapath's contract, docs/datapath.md
ORDINARY = ("older_llama", "mistral", "qwen2", "qwen3", "smollm3")
NAMES = [n if n in ORDINARY else pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES]
WINDOWED = [name for name in ORDINARY if FAMILIES[name].get("sliding_window")]


@dataclass(frozen=True, slots=True)
class Case:
    """A family's checkpoint and image, and what transformers computes of it."""

    source: SafetensorsCheckpoint
    image: RomImage
    expected: dict[str, np.ndarray]  # as tests/support/make_family_reference.py names them


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    name = request.param
    with np.load(made.OUTPUT, allow_pickle=False) as file:
        parts = ("sha256", "frequencies", "sample", "log_sum")
        expected = {part: file[f"{name}_{part}"] for part in parts}
    folder = tmp_path_factory.mktemp(name)
    source = SafetensorsCheckpoint(made.checkpoint(folder / "checkpoint", name))
    compile_image(source, folder / "image", CompileOptions(Mix.parse("6"), TOKENS))
    return Case(source, open_image(folder / "image"), expected)


def test_the_checkpoint_is_the_one_that_transformers_saw(case: Case):
    assert shard_sha256(case.source.folder) == case.expected["sha256"].tobytes().hex()


def test_frequencies(case: Case):
    ours = np.array(frequencies(case.source.config))
    assert np.abs(ours / case.expected["frequencies"] - 1).max() < 1e-6


def test_float_reference(case: Case):
    """Logits of every position, to 1e-4."""
    logits = FloatModel.of_checkpoint(case.source).forward(tokens())
    found = summary(logits)
    difference = np.abs(found["sample"] - case.expected["sample"]).max()
    print(f"largest difference {difference:.1e} of logits of deviation {logits.std():.2f}")
    assert difference < 1e-4
    assert np.abs(found["log_sum"] - case.expected["log_sum"]).max() < 1e-4


def test_the_chips_basis_changes_nothing(case: Case):
    """Folded and rotated in float32, biases and gains too, the logits are the same.

    To the rounding of the mixer, whose entries have 14 bits.
    """
    folded = FloatModel.folded(case.source, seed=1).forward(tokens())
    assert np.abs(summary(folded)["sample"] - case.expected["sample"]).max() < 5e-3


def test_chip(case: Case):
    """The datapath's contract, whole; token by token and in pieces the same bits."""
    masks = log_softmax(FloatModel.of_image(case.image).forward(tokens()))
    whole = Chip(case.image).forward(tokens(), all_logits=True).logits
    distance = Distance()
    distance.add(masks, log_softmax(chip_logits(Chip(case.image), tokens())))
    print(distance.report())
    assert distance.report()["kl_mean"] <= MOST_KL
    for cuts in (range(1, TOKENS), (WINDOW - 1, WINDOW, WINDOW + 1, WINDOW + 9)):
        chip, pieces = Chip(case.image), []
        for start, end in zip([0, *cuts], [*cuts, TOKENS], strict=True):
            pieces.append(chip.forward(tokens()[start:end], all_logits=True).logits)
        np.testing.assert_array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize("case", WINDOWED, indirect=True)
def test_a_window_says_something_else(case: Case):
    """Up to its edge a window changes no bit; behind it, the answer is another."""
    free = replace(case.image, config=replace(case.image.config, window=None, windowed=()))
    with_window, without = (
        Chip(image).forward(tokens(), all_logits=True).logits for image in (case.image, free)
    )
    np.testing.assert_array_equal(with_window[:WINDOW], without[:WINDOW])
    assert (with_window[WINDOW:] != without[WINDOW:]).any(axis=1).all()


def test_an_image_keeps_what_a_checkpoint_says(case: Case):
    """Its configuration, and the vectors of its layers to their last bit."""
    assert case.image.config == case.source.config
    for layer in range(2):
        held = real(of_layer(case.image.vectors, layer))
        assert set(held) == set(layer_vectors(case.source.config))
        for name, folded in Fold(case.source, seed=1).layer_vectors(layer).items():
            np.testing.assert_allclose(held[name], folded, atol=2**-15)

"""The trained adapter on the default image: the bits, the behaviour, and the distance to peft's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emulator.chat.generate import generate
from emulator.chat.template import chat_format
from emulator.chip import Chip
from emulator.images.adapters import checkpoint_of, load_adapters, read_adapter
from emulator.images.recipe import embedded_folder
from emulator.quality.float_model import FloatModel
from emulator.silicon.spec import load_spec
from emulator.verification.golden import logits_digest
from weights.rom import RomImage, open_image

ADAPTER = Path(__file__).parent / "data" / "adapters" / "json"
GOLDEN = "31eda6cf76f2b510"


@pytest.fixture(scope="module")
def image(default_home: Path) -> RomImage:
    return open_image(default_home / embedded_folder().name)


@pytest.fixture(scope="module")
def chip(image: RomImage) -> Chip:
    chip = Chip(image, 1024, adapters=load_adapters(image, [str(ADAPTER)]))
    chip.use("json")
    return chip


def test_it_answers_in_json(chip, image):
    """As it was trained to, on a question that it was not trained on; and plainly without."""
    chat = chat_format(image.tokenizer_json, image.manifest["chat_style"])
    said = []
    for name in ("json", ""):
        chip.use(name)
        prompt = [*chat.opening(None), *chat.question("What is the capital of France?")]
        said.append(chat.decode(generate(chip, load_spec(), prompt, 12).token_ids))
    assert said[0].startswith('{"answer": "Paris"}')
    assert "{" not in said[1]


def test_the_golden_hash(chip):
    chip.use("json")
    assert logits_digest(chip)[:16] == GOLDEN


@pytest.mark.slow
def test_the_float_model_says_what_peft_says(image):
    """Its logits with the adapter are peft's in float32 (tests/support/train_adapter.py)."""
    stored = np.load(ADAPTER.with_suffix(".npz"))
    adapter = read_adapter(image, str(ADAPTER))
    model = FloatModel.of_checkpoint(checkpoint_of(image)).with_low_rank(adapter.matrices)
    for i in range(3):
        logits = model.forward(stored[f"tokens_{i}"].tolist())
        sample = logits[:, :: logits.shape[1] // 32]
        np.testing.assert_allclose(sample, stored[f"logits_{i}"].astype(np.float32), atol=0.03)
        assert (logits.argmax(axis=1) == stored[f"top_{i}"][:, 0]).mean() > 0.98

"""Adapters of Llama 3.1 8B's shape, as the hub has them, on the synthetic image of that shape.

Two layers of full width and a narrow table: the float model of all 32 takes 32 GB.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthetic import write_8b
from emulator.chip import Chip
from emulator.config import LlamaConfig
from emulator.config.factors import Factors
from emulator.quality.evaluate import Distance, chip_logits, log_softmax
from emulator.quality.float_model import FloatModel
from tests.support.adapters import write_adapter
from weights.checkpoint import LAYER_MATRICES
from weights.lora import adapter_for, turned
from weights.peft_adapter import open_adapter
from weights.rom import RomImage, open_image

TOKENS = [int(i) for i in np.random.default_rng(3).integers(0, 2048, 24)]
MOST_KL = 0.003  # the datapath's contract, docs/datapath.md


@dataclass(frozen=True, slots=True)
class Gains:
    """What an adapter needs of a checkpoint: the norms' gains, here ones as in random masks."""

    config: LlamaConfig
    factors: Factors = field(default_factory=Factors)

    def tensor(self, name: str) -> np.ndarray:
        assert "norm" in name
        return np.ones(self.config.hidden, np.float32)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> RomImage:
    return open_image(write_8b(tmp_path_factory.mktemp("8b") / "image", 2, 2048))


@pytest.mark.slow
@pytest.mark.parametrize("names", [("q", "v"), LAYER_MATRICES], ids=["q and v", "all seven"])
def test_rank_16(image: RomImage, tmp_path: Path, names: tuple[str, ...]):
    """It loads, is heard, and the chip is no farther from the float model than the contract."""
    source = Gains(image.config)
    folder = write_adapter(tmp_path / "hub", image.config, 16, names, strength=0.5)
    adapter = open_adapter(folder, image.config)
    chip = Chip(image, adapters=[adapter_for(image, source, adapter)])
    plain = chip_logits(chip, TOKENS)
    chip.use("hub")
    logits = chip_logits(chip, TOKENS)
    wanted = FloatModel.of_image(image).with_low_rank(turned(adapter, source, 1)).forward(TOKENS)
    far = {}
    for name, other in (("with", logits), ("without", plain)):
        distance = Distance()
        distance.add(log_softmax(wanted), log_softmax(other))
        far[name] = distance.report()["kl_mean"]
    print(f"KL with the adapter {far['with']:.5f}, without {far['without']:.5f}")
    assert far["with"] <= MOST_KL
    assert far["without"] > 20 * far["with"]

"""Calibration through the chip, and images made with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emulator.chip import Chip
from emulator.errors import UsageError
from emulator.images.calibrator import ChipCalibrator, calibrator_of
from emulator.quality.attribution import kl_by_group
from emulator.quality.evaluate import evaluate
from emulator.quality.float_model import FloatModel
from kernels import compiled, reference
from tests.support.refusals import refused
from tests.support.tiny_model import (
    QWEN3,
    SMOLLM3,
    TINY_CONTEXT,
    TINY_MIX,
    write_tiny_checkpoint,
)
from weights.checkpoint import LAYER_MATRICES
from weights.compile import ROTATION_SEED, CompileOptions, compile_image
from weights.fold import Fold
from weights.mix import Mix
from weights.quantize import quantise
from weights.rom import RomImage, open_image
from weights.safetensors_source import SafetensorsCheckpoint

WINDOWS = np.random.default_rng(0).integers(0, 256, (6, 48))


def compiled_with(checkpoint: Path, folder: Path, level: str, mix: str = TINY_MIX) -> RomImage:
    source = SafetensorsCheckpoint(checkpoint)
    calibrator = None if level == "fast" else ChipCalibrator(source.config, WINDOWS)
    options = CompileOptions(Mix.parse(mix), TINY_CONTEXT, level)
    compile_image(source, folder, options, None, calibrator)
    return open_image(folder)


def hashes(image: RomImage) -> dict[str, str]:
    return {file["file"]: file["sha256"] for file in image.manifest["files"]}


def test_moments_are_those_of_the_float_model(tiny_checkpoint: Path):
    """The chip's fabric inputs, but for int8, are the float model's."""
    source = SafetensorsCheckpoint(tiny_checkpoint)
    exact = FloatModel.folded(source, ROTATION_SEED)
    calibrator = ChipCalibrator(source.config, WINDOWS)
    folder = Fold(source, ROTATION_SEED)
    calibrator.embed(quantise(folder.embedding(), 6))
    masks = {name: quantise(folder.layer_matrix(name, 0), 6) for name in LAYER_MATRICES}
    moments = calibrator.layer(0, masks, {})
    assert {name: len(m.value) for name, m in moments.items()} == {
        "qkv": 64, "o": 128, "gate_up": 64, "down": 96,
    }  # fmt: skip
    x = np.concatenate([exact.embedding[ids] for ids in WINDOWS])
    x /= np.sqrt(np.mean(np.square(x), axis=1, keepdims=True) + source.config.rms_epsilon)
    want = x.T @ x
    assert np.abs(moments["qkv"].value - want).max() < 0.02 * np.trace(want) / 64


def test_moments_depend_on_no_host(tiny_checkpoint: Path):
    """The same bits from the twins and the kernels, hence from any CPU."""
    source = SafetensorsCheckpoint(tiny_checkpoint)
    folder = Fold(source, ROTATION_SEED)
    both = [ChipCalibrator(source.config, WINDOWS[:2], ops) for ops in (reference, compiled)]
    for calibrator in both:
        calibrator.embed(quantise(folder.embedding(), 6))
    for layer in range(2):
        masks = {name: quantise(folder.layer_matrix(name, layer), 6) for name in LAYER_MATRICES}
        a, b = (calibrator.layer(layer, masks, {}) for calibrator in both)
        assert all(np.array_equal(a[name].value, b[name].value) for name in a)


def test_quantiser_levels(tiny_checkpoint: Path, tmp_path: Path):
    """Each level is recorded and nearer to the original; the best twice gives the same bytes."""
    source = SafetensorsCheckpoint(tiny_checkpoint)
    original = FloatModel.of_checkpoint(source)
    windows = np.random.default_rng(9).integers(0, 256, (6, 48)).tolist()
    distance = {}
    for level in ("fast", "calibrated", "best"):
        image = compiled_with(tiny_checkpoint, tmp_path / level, level, "3")
        assert image.manifest["quantiser"] == level
        report = evaluate(original, FloatModel.of_image(image), Chip(image), windows)
        distance[level] = report["quantiser"]["kl_mean"]
    assert image.manifest["calibration"]["windows"] == 6
    assert distance["best"] < distance["calibrated"] < 0.9 * distance["fast"]
    again = compiled_with(tiny_checkpoint, tmp_path / "again", "best", "3")
    assert hashes(again) == hashes(image)


@pytest.mark.parametrize(
    "changes",
    [pytest.param(QWEN3, marks=pytest.mark.slow, id="qwen3"), pytest.param(SMOLLM3, id="smollm3")],
)
def test_calibration_of_other_families(tmp_path: Path, changes):
    """The text passes through biases, norms, windows and other gates; errors shrink with it."""
    folder = write_tiny_checkpoint(tmp_path / "in", False, **changes)
    original = FloatModel.of_checkpoint(SafetensorsCheckpoint(folder))
    windows = np.random.default_rng(9).integers(0, 256, (6, 48)).tolist()
    distance = {}
    for level in ("fast", "calibrated"):
        image = compiled_with(folder, tmp_path / level, level, "3")
        report = evaluate(original, FloatModel.of_image(image), Chip(image), windows)
        distance[level] = report["quantiser"]["kl_mean"]
    assert distance["calibrated"] < 0.9 * distance["fast"]


def test_attribution(tiny_checkpoint: Path, tmp_path: Path):
    """Every class of matrices costs something; a wider class costs less."""
    source = SafetensorsCheckpoint(tiny_checkpoint)
    image = compiled_with(tiny_checkpoint, tmp_path / "image", "best", "3,down=6")
    exact = FloatModel.folded(source, ROTATION_SEED)
    windows = WINDOWS[:3].tolist()
    costs = kl_by_group(exact, FloatModel.of_image(image), windows, depths=2)
    assert {name: len(values) for name, values in costs.items()} == {
        **dict.fromkeys(LAYER_MATRICES, 2), "embedding": 1,
    }  # fmt: skip
    assert all(value > 0 for values in costs.values() for value in values)
    assert sum(costs["down"]) < 0.2 * sum(costs["up"])


def test_text(tmp_path: Path, tiny_checkpoint: Path):
    """A text of one's own; every second window is a conversation where there is a chat format."""
    source = SafetensorsCheckpoint(tiny_checkpoint)
    file = tmp_path / "text"
    file.write_text("the quick brown fox " * 40)
    calibrator = calibrator_of(source, file)
    assert calibrator.windows.shape == (3, 256)
    assert calibrator.provenance()["window"] == 256
    assert calibrator_of(source).windows.shape == (32, 256)  # the text that ships


@pytest.mark.parametrize("content", [None, b"short", b"\xff\xfe\xff" * 400], ids=str)
def test_bad_text(tmp_path: Path, tiny_checkpoint: Path, content: bytes | None):
    file = tmp_path / "text"
    if content is not None:
        file.write_bytes(content)
    source = SafetensorsCheckpoint(tiny_checkpoint)
    refused(UsageError, str(file), lambda: calibrator_of(source, file))

"""A mix for a number of bits: within it, better with more, and by the family's widths."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emulator.errors import UsageError
from emulator.timing.models import MODELS, rom_bits
from tests.support.refusals import refused
from weights.allocate import FAMILIES, LARGE_BITS, SMALL_BITS, allocate, default_mix, predicted_kl
from weights.checkpoint import LAYER_MATRICES
from weights.mix import Mix

SMALL = MODELS["smollm2-135m"]
TARGETS = (3.4, 4.0, 4.4, 4.8, 5.2, 5.8)


def tensors(config, mix: Mix) -> dict[str, int]:
    widths = {
        f"layers.{i}.{name}": mix.bits(name, i)
        for i in range(config.layers)
        for name in LAYER_MATRICES
    }
    tables = ("embedding",) if config.tied else ("embedding", "head")
    return {**widths, **{name: mix.bits(name) for name in tables}}


def predicted(config, mix: Mix) -> float:
    return sum(predicted_kl(config, name, bits) for name, bits in tensors(config, mix).items())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("model", ["smollm2-135m", "llama-3.1-8b"])
def test_more_bits_cost_less(model, family):
    """Within the target but for what no tensor's next width fits in; KL falls with every step."""
    config, last = MODELS[model], float("inf")
    for bits in TARGETS:
        mix = allocate(config, bits, family)
        assert set(tensors(config, mix).values()) <= set(FAMILIES[family])
        used = rom_bits(config, mix, positions=0) / config.parameters
        assert bits - 0.1 < used <= bits + 1e-9
        assert predicted(config, mix) < last
        last = predicted(config, mix)


@pytest.mark.parametrize("bits", TARGETS)
def test_the_third_width_helps(bits):
    free, hc1 = (predicted(SMALL, allocate(SMALL, bits, family)) for family in ("free", "hc1"))
    assert free <= hc1


def test_depth_is_relative():
    """A class costs the same in all, however many layers share it."""
    half = replace(SMALL, layers=15)
    for name in LAYER_MATRICES:
        of_all = [
            sum(predicted_kl(config, f"layers.{i}.{name}", 3) for i in range(config.layers))
            for config in (SMALL, half)
        ]
        assert of_all[0] == pytest.approx(of_all[1], rel=0.05)


@pytest.mark.parametrize("model", ["smollm2-135m", "llama-3.1-8b"])
@pytest.mark.parametrize("calibrated", [False, True])
def test_default(model, calibrated):
    """3 bits need calibration; a small model gets fewer of them."""
    config = MODELS[model]
    mix = default_mix(config, calibrated)
    if calibrated:
        bits = LARGE_BITS if model == "llama-3.1-8b" else SMALL_BITS
        assert mix == allocate(config, bits, "hc1")
        assert mix.base == 3
    else:
        assert mix == Mix.parse("6")


@pytest.mark.parametrize("bits", [0.0, 3.2, -1.0])
def test_too_few_bits(bits):
    refused(UsageError, r"needs at least 3\.2\d\d", lambda: allocate(SMALL, bits))


def test_unknown_family():
    refused(UsageError, "hc1, free", lambda: allocate(SMALL, 4.0, "fp4"))


def test_exceptions_by_place():
    mix = Mix.parse("3,v=6,2=4,2.v=3,29.down=6")
    assert [mix.bits("v", i) for i in (1, 2)] == [6, 3]
    assert [mix.bits("down", i) for i in (1, 2, 29)] == [3, 4, 6]
    assert len(mix.tag) <= 40
    long = Mix.parse("3," + ",".join(f"{i}.q=6" for i in range(30)))
    assert len(long.tag) == 12

"""Repair: cells come back exactly, rows and inputs to within int8, and a budget is kept."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.chip import Chip
from emulator.cli import main
from emulator.economics.constants import load_economics
from emulator.economics.repair_yield import repair_yields
from emulator.silicon.spec import load_spec
from emulator.timing.models import HC1_MIX, MODELS, blank_stages
from emulator.verification.faults import Fault, faulty_chip, faulty_image
from emulator.verification.repair import broken_cells, input_energies, patch_of
from emulator.verification.repair_sweep import KINDS, layer_matrices
from kernels.reference import levels
from weights.mix import Mix

TOKENS = [int(i) for i in np.random.default_rng(8).integers(0, 256, 32)]
RATES = {"flip": 0.01, "stuck": 0.01, "row": 0.05, "bank": 0.3, "column": 0.05, "lane": 0.1}
ROOM = 8 << 20  # bits


@pytest.fixture(scope="module")
def energies(tiny_image):
    return input_energies(tiny_image, [TOKENS])


def logits(image, fault, patch=None) -> np.ndarray:
    chip, hits = faulty_chip(image, fault, layer_matrices(image), load_spec(), 40, patch)
    assert hits > 0
    return np.ldexp(chip.forward(TOKENS, all_logits=True).logits.astype(float), -16)


def sound_logits(image) -> np.ndarray:
    return np.ldexp(Chip(image, 40).forward(TOKENS, all_logits=True).logits.astype(float), -16)


def patch(image, fault, energies, bits=ROOM, rank=64):
    return patch_of(image, fault, layer_matrices(image), load_spec(), energies, bits, rank)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_lost_comes_back(kind, tiny_image, energies):
    """Cells give the sound chip's very bits; rows and inputs nearly all of the distance."""
    fault = Fault(kind, RATES[kind], 2)
    sound = sound_logits(tiny_image)
    broken = np.abs(logits(tiny_image, fault) - sound).mean()
    mended = np.abs(logits(tiny_image, fault, patch(tiny_image, fault, energies)) - sound).mean()
    assert broken > 0.01
    assert mended < (1e-12 if kind in ("flip", "stuck") else 0.25 * broken)


def test_broken_cells_are_found(tiny_image):
    """Their places and differences are those of the unpacked levels."""
    fault, name = Fault("flip", 0.02, 1), "layers.1.o"
    broken, _ = faulty_image(tiny_image, fault, {name}, load_spec())
    sound, other = tiny_image.matrices[name], broken.matrices[name]
    cells = broken_cells(sound, other)
    lacks = np.zeros((sound.rows, sound.columns), np.int64)
    lacks[cells.rows, cells.columns] = cells.lacks
    np.testing.assert_array_equal(lacks, levels(sound) - levels(other))
    assert broken_cells(sound, sound).rows.size == 0


def test_a_budget_is_kept_and_spent_well(tiny_image, energies):
    """Half of the room keeps the cells that are heard most."""
    fault = Fault("flip", 0.01, 2)
    whole = patch(tiny_image, fault, energies)
    half = patch(tiny_image, fault, energies, whole.stored_bits // 2)
    assert 0.4 * whole.stored_bits < half.stored_bits <= 0.5 * whole.stored_bits
    sound = sound_logits(tiny_image)
    broken = np.abs(logits(tiny_image, fault) - sound).mean()
    assert np.abs(logits(tiny_image, fault, half) - sound).mean() < 0.5 * broken
    row = Fault("row", 0.05, 2)
    assert patch(tiny_image, row, energies, 100).stored_bits <= 100


def test_yields_rise_with_what_is_tolerated():
    stages = blank_stages(MODELS["llama-3.1-8b"], Mix.parse(HC1_MIX))
    none, cells, rows = repair_yields(stages, load_spec(), load_economics(), (0.11,))
    assert none.sellable < cells.sellable < rows.sellable < 1
    assert none.die_dollars > cells.die_dollars > rows.die_dollars


@pytest.mark.parametrize(
    "words", [["--kind", "kv"], ["--rank", "65"], ["--budget", "0"], ["--rates", "2"]]
)
def test_options(words, capsys):
    assert main(["repair", *words]) == 2
    assert words[0] in capsys.readouterr().err

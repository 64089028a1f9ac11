"""Lanes and banks are the chip description's: another chip has other ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from emulator.cli import main
from emulator.silicon.spec import load_spec
from emulator.verification.faults import KINDS, DeadInputs, Fault, faulty_chip, meaning, units
from weights.rom import RomImage

SPEC = load_spec()


def test_units_follow_the_description(tiny_image: RomImage):
    matrix = tiny_image.matrices["layers.0.gate"]  # 96 rows, 64 columns
    assert (units(matrix, "lane", SPEC), units(matrix, "bank", SPEC)) == (16, 2)
    other = SPEC.with_value("fabric.lanes", 32).with_value("fabric.bank_rows", 8)
    assert (units(matrix, "lane", other), units(matrix, "bank", other)) == (32, 12)


@pytest.mark.parametrize("lanes", [8, 32])
def test_a_dead_lane_takes_every_nth_column(tiny_image: RomImage, lanes: int):
    spec = SPEC.with_value("fabric.lanes", lanes)
    chip, hits = faulty_chip(tiny_image, Fault("lane", 0.3, 1), {"layers.0.q"}, spec)
    (block,) = [b for s in chip.stages for b in s.blocks if isinstance(b, DeadInputs)]
    dead = np.flatnonzero(block.alive["q"] == 0)
    assert hits == len(set(dead % lanes)) > 0
    assert dead.size == hits * 64 // lanes


def test_meanings():
    """Every kind has one, with the chip's numbers in it."""
    spec = SPEC.with_value("fabric.lanes", 8).with_value("fabric.bank_rows", 128)
    assert meaning("lane", spec) == "one of 8 input lanes of a matrix is dead: every 8th column"
    assert meaning("bank", spec).startswith("128 neighbouring")
    assert not any("{" in meaning(kind, spec) for kind in KINDS)


def test_the_command_takes_a_description(tiny_image: RomImage, capsys):
    words = ["faults", "--image", str(tiny_image.folder), "--kind", "lane", "--rates", "0.1"]
    more = ["--window", "16", "--limit", "32", "--json", "--set", "fabric.lanes=32"]
    assert main([*words, *more]) == 0
    assert "one of 32 input lanes" in json.loads(capsys.readouterr().out)["meaning"]

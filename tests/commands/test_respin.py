"""`respin`: nothing changes against itself, a fine-tune changes some cells, two shapes none."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from emulator.cli import main
from emulator.economics.respin import changes, matrix_change, obstacles
from emulator.silicon.spec import load_spec
from tests.support.signals import matrix


def respin(capsys, *words: str) -> dict:
    assert main(["respin", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_against_itself(tiny_image, capsys):
    where = str(tiny_image.folder)
    assert respin(capsys, where, where)["same"] is True
    assert main(["respin", where, where]) == 0
    assert "nothing changes" in capsys.readouterr().out


def test_of_two_shapes(tiny_image, untied_image, capsys):
    assert main(["respin", str(tiny_image.folder), str(untied_image.folder)]) == 2
    assert "no base die holds both: tied is" in capsys.readouterr().err


@pytest.mark.parametrize(("bits", "cells"), [(3, 1), (4, 1), (6, 2)])
def test_cells_of_one_code(bits, cells):
    """One changed bit changes one cell, of the one or two that a code lies in."""
    m = matrix(8, 32, bits, 32)
    codes = m.codes.copy()
    codes[0, 0, 0] ^= 1
    one = matrix_change("q", m, replace(m, codes=codes), 4)
    assert (one.codes, one.cells) == (256, 256 * cells)
    assert (one.changed_codes, one.changed_cells, one.changed_scales) == (1, 1, 0)
    scale = m.group_scale.copy()
    scale[0, 0, 3] += 1
    assert matrix_change("q", m, replace(m, group_scale=scale), 4).changed_scales == 1


def test_another_width_needs_another_die(tiny_image):
    wider = {**tiny_image.matrices, "layers.0.q": tiny_image.matrices["layers.0.v"]}
    (why,) = obstacles(tiny_image, replace(tiny_image, matrices=wider))
    assert why == "layers.0.q has 3-bit codes in one, 6 in the other"
    assert all(not one.changed_cells for one in changes(tiny_image, tiny_image, load_spec()))

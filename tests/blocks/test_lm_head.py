"""LM head: the last token alone goes through it, unless all logits are wanted."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.blocks.lm_head import LastToken, final_norm, head_blocks
from emulator.blocks.rms_norm import FinalGain, RmsNorm
from emulator.blocks.weight_fabric import WeightFabric
from emulator.blocks.wires import Wires
from emulator.fixedpoint import scale_value
from emulator.silicon.spec import load_spec
from kernels import compiled, reference
from tests.support.signals import (
    ONE,
    signal,
    values_of,
)
from weights.rom import RomImage


@pytest.mark.parametrize("everything", [False, True])
def test_the_last_token(everything):
    residual = signal((5, 64), "random")
    wires = Wires(np.arange(5), 0, everything, residual=residual)
    LastToken().run(compiled, wires)
    np.testing.assert_array_equal(wires.residual, residual if everything else residual[-1:])


def test_logits_are_the_norm_times_the_table(either_image: RomImage):
    """The blocks in a row against the matrix as numbers, on the norm's own output."""
    wires = Wires.carrying(3, 0, {"residual": signal((3, 64), "random") >> 12})
    for block in head_blocks(either_image):
        block.run(compiled, wires)
    table = either_image.matrices["embedding" if either_image.config.tied else "head"]
    weights = reference.levels(table) * scale_value(reference.row_scales(table))[:, None]
    expected = values_of(wires.x, wires.x_scale) @ weights.T
    np.testing.assert_allclose(wires.logits / ONE, expected, atol=1e-4)


def test_a_tied_head_keeps_its_gain(tiny_image: RomImage, untied_image: RomImage):
    """A head of its own has the gain in its matrix; a shared table cannot."""
    kinds = [[type(b) for b in head_blocks(image)] for image in (tiny_image, untied_image)]
    assert kinds == [[LastToken, FinalGain, WeightFabric], [LastToken, RmsNorm, WeightFabric]]
    assert isinstance(final_norm(tiny_image.config, None, 0, None), RmsNorm)


def test_cost(tiny_image: RomImage):
    """Choosing a token is free; the table is read whole."""
    choose, _, fabric = (b.cost(load_spec(), 1) for b in head_blocks(tiny_image))
    assert choose.cycles == choose.rom_bits == 0
    assert fabric.macs == 320 * 64

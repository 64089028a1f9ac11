"""A layer: its blocks in the order in which a token meets them."""

from __future__ import annotations

import numpy as np

from emulator.blocks.wires import Wires
from emulator.chip import Chip
from emulator.silicon.spec import load_spec
from weights.rom import RomImage

ORDER = [
    *("rms_norm", "fabric_qkv", "rope", "kv_sram", "attention", "fabric_o", "residual_add"),
    *("rms_norm", "fabric_gate_up", "swiglu", "fabric_down", "residual_add"),
]


def test_order(either_image: RomImage):
    """Norm, attention, norm, feed-forward; every block reads what an earlier one wrote."""
    for stage in Chip(either_image).stages[1:-1]:
        assert [block.name for block in stage.blocks] == ORDER
        written = {"residual"}
        for block in stage.blocks:
            assert set(block.reads) <= written, block.name
            written |= set(block.writes)


def test_a_layer_adds_two_sublayers(tiny_image: RomImage):
    """The stream after a layer is what came in plus the outputs of o and of down."""
    chip = Chip(tiny_image)
    wires, deltas = Wires(np.array([5, 6]), 0, True), []
    for block in chip.stages[0].blocks:
        block.run(chip.ops, wires)
    before = wires.residual.astype(np.int64)
    for block in chip.stages[1].blocks:
        block.run(chip.ops, wires)
        if "delta" in block.writes:
            deltas.append(wires.delta.astype(np.int64))
    assert len(deltas) == 2
    np.testing.assert_array_equal(wires.residual, before + sum(deltas))


def test_cost(tiny_image: RomImage):
    """Weights are read once a token; only attention's work depends on the position."""
    stage, spec = Chip(tiny_image).stages[1], load_spec()
    names = {b.name for b in stage.blocks if b.cost(spec, 1) != b.cost(spec, 60)}
    assert names == {"attention"}
    fabrics = [block for block in stage.blocks if block.name.startswith("fabric")]
    weights = sum(block.cost(spec, 1).macs for block in fabrics)
    shapes = [m.rows * m.columns for block in fabrics for m in block.matrices.values()]
    assert len(shapes) == 7
    assert weights == sum(shapes)

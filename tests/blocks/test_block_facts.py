"""What a block's class says of itself: its wires, memory, ROM and sizes, on running chips."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

import kernels
from emulator.blocks.top_k import TopK
from emulator.blocks.wires import SIGNALS, Wires
from emulator.chip import Chip
from emulator.config import MAX_K
from emulator.errors import ChipError
from emulator.silicon.spec import load_spec
from emulator.verification.vectors import known_blocks
from weights.rom import RomImage

TOKENS = [5, 300, 17, 5]


def test_every_output_has_its_declared_shape_and_type(any_image: RomImage):
    """After each block, the wires that it writes, and no other, hold new arrays."""
    chip = Chip(any_image)
    sizes = {"T": len(TOKENS), **asdict(any_image.config)}
    wires = Wires(np.array(TOKENS), 0, True)
    for block in [block for stage in chip.stages for block in stage.blocks]:
        before = {name: getattr(wires, name) for name in SIGNALS}
        for name in block.reads:
            shape = SIGNALS[name].shape({**sizes, **block.sizes})
            assert before[name].shape == shape, f"{block.name} reads {name}"
        block.run(chip.ops, wires)
        changed = {name for name in SIGNALS if getattr(wires, name) is not before[name]}
        assert changed <= set(block.writes), block.name
        for name in changed:
            array, signal = getattr(wires, name), SIGNALS[name]
            assert array.dtype == signal.format.dtype, f"{block.name}: {name}"
            if "columns" not in signal.axes:  # which the block after it says
                assert array.shape == signal.shape(sizes), f"{block.name}: {name}"


def test_only_a_block_that_says_so_changes_its_memory(tiny_image: RomImage):
    chip = Chip(tiny_image)
    wires = Wires(np.array(TOKENS), 0, True)
    for block in [block for stage in chip.stages for block in stage.blocks]:
        before = {name: array.copy() for name, array in block.memory.items()}
        block.run(chip.ops, wires)
        changed = any((array != before[name]).any() for name, array in block.memory.items())
        assert changed == block.writes_memory, block.name
    users = {b.name for s in chip.stages for b in s.blocks if b.memory}
    assert users == {"kv_sram", "attention"}


def test_a_block_is_rebuilt_from_what_it_says(any_image: RomImage):
    """Parameters, ROM and memory make an equal block of a blank one."""
    chip = Chip(any_image)
    chip.forward(TOKENS)
    for block in [block for stage in chip.stages for block in stage.blocks]:
        twin = known_blocks()[block.name].rebuilt(block.parameters, block.rom)
        twin = twin.with_memory(block.memory)
        assert twin.parameters == block.parameters
        assert (twin.reads, twin.writes) == (block.reads, block.writes)
        for name, array in {**block.rom, **block.memory}.items():
            np.testing.assert_array_equal({**twin.rom, **twin.memory}[name], array)


def test_every_block_is_known(tiny_image, untied_image, qwen3_image, smollm3_image):
    """The test images have every block, so that no test on them all leaves one out."""
    images = tiny_image, untied_image, qwen3_image, smollm3_image
    blocks = [b for image in images for stage in Chip(image).stages for b in stage.blocks]
    assert {block.name for block in blocks} == set(known_blocks())


def test_stages_say_their_layer(tiny_image: RomImage):
    stages = Chip(tiny_image).stages
    assert [stage.layer for stage in stages] == [None, 0, 1, None]


def test_a_cut_fabric_gives_the_first_rows(tiny_image: RomImage):
    """Whole heads, where outputs are heads; the cut block computes what `cut_output` keeps."""
    chip, ops = Chip(tiny_image), kernels.load()
    rng = np.random.default_rng(0)
    for block in chip.stages[1].blocks:
        if "x" not in block.reads:
            continue
        x = rng.integers(-127, 128, (2, block.sizes["columns"])).astype(np.int8)
        scale = np.array([[40000, 20]] * 2, np.int32)
        wires = [Wires.carrying(2, 0, {"x": x, "x_scale": scale}) for _ in range(2)]
        part = block.cut(33)
        block.run(ops, wires[0])
        part.run(ops, wires[1])
        for name in block.writes:
            whole, cut = (getattr(one, name) for one in wires)
            np.testing.assert_array_equal(part.cut_output(name, whole), cut)
            assert 0 < cut[0].size <= 64


def test_one_k():
    """The datapath's k and the description's are one: another is refused, not half applied."""
    spec = load_spec()
    assert spec.top_k.width.range == (MAX_K, MAX_K)
    assert SIGNALS["top"].axes == (MAX_K,)
    other = replace(spec, top_k=replace(spec.top_k, width=replace(spec.top_k.width, value=4)))
    with pytest.raises(ChipError, match=r"top_k.width = 4: the datapath's search hands out 8"):
        TopK(320).cost(other, 1)

"""Golden vectors for RTL: what each block of a running chip is given and what it answers.

A token runs through the chip; the wanted block is written with everything that it needs, so that
a test bench (or `replay`) wants neither the image nor the blocks before it. What belongs to a block
is said by its class (`emulator.blocks.block`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType

import numpy as np

from emulator.blocks.block import Block
from emulator.blocks.wires import Arrays, Wires
from emulator.chip import Chip
from emulator.config.model import ACTIVATIONS, PASSES
from emulator.errors import UsageError
from emulator.timing.models import MODELS, blank_stages
from emulator.verification.golden import array_digest
from emulator.verification.vector_files import Vector
from weights.checkpoint import LAYER_MATRICES
from weights.mix import Mix


def known_blocks(adapted: bool = False) -> dict[str, Block]:
    """A block of every name, from chips with blank masks whose models have them.

    `adapted`: also those of chips with an adapter.
    """
    every = dict.fromkeys(LAYER_MATRICES, 1)
    small = MODELS["smollm2-135m"]
    found: dict[str, Block] = {}
    for activation in ACTIVATIONS:
        config = replace(small, activation=activation, biases=PASSES, head_norm=True)
        for ranks in ({}, every) if adapted else ({},):
            stages = blank_stages(config, Mix.parse("6"), ranks)
            found |= {block.name: block for stage in stages for block in stage.blocks}
    return found


def vectors(
    chip: Chip, tokens: list[int], block: str | None, layer: int, rows: int
) -> Iterator[Vector]:
    """Vectors of the last of `tokens`, run one by one: of one kind of block, or of all (None).

    Blocks of a layer come from layer `layer`. A fabric keeps about `rows` outputs a matrix.
    Raises UsageError for a block or a layer that the chip does not have.
    """
    names = {b.name for stage in chip.stages for b in stage.blocks}
    if block is not None and block not in names:
        raise UsageError(f"no block {block!r}; the chip has {', '.join(sorted(names))}")
    if not 0 <= layer < chip.image.config.layers:
        raise UsageError(f"no layer {layer}; the model has {chip.image.config.layers}")
    chip.rewind(0)
    for token in tokens[:-1]:
        chip.forward([token])
    wires = Wires(np.array(tokens[-1:], np.int64), chip.position, False)
    done: set[str] = set()
    for stage in chip.stages:
        for one in stage.blocks:
            wanted = block in (None, one.name) and one.name not in done
            if wanted and stage.layer in (None, layer):
                done.add(one.name)
                yield _observed(chip.ops, one, wires, stage.layer, rows)
            else:
                one.run(chip.ops, wires)
    chip.tokens.append(tokens[-1])


def commit_log(chip: Chip, tokens: list[int]) -> Iterator[str]:
    """One line a block and signal, for the last of `tokens`: step, stage, block, signal, hash.

    The hash is the first 16 hex digits of the SHA-256 of the values, little-endian.
    """
    chip.rewind(0)
    for token in tokens[:-1]:
        chip.forward([token])
    position = chip.position
    wires = Wires(np.array(tokens[-1:], np.int64), position, False)
    step = 0
    for stage in chip.stages:
        for block in stage.blocks:
            block.run(chip.ops, wires)
            place = stage.name.replace(" ", "_")
            outputs = {name: getattr(wires, name) for name in block.writes}
            if block.writes_memory:
                at = slice(position, position + 1)
                outputs |= {f"sram.{name}": array[at] for name, array in block.memory.items()}
            for name, array in outputs.items():
                shape = ",".join(map(str, array.shape))
                digest = array_digest(array)[:16]
                yield f"{step:05} {place} {block.name} {name} {array.dtype.name}[{shape}] {digest}"
            step += 1
    chip.tokens.append(tokens[-1])


def replay(vector: Vector, ops: ModuleType) -> Arrays:
    """Run a block that is made of its own vector; the outputs by "role.name".

    Raises UsageError for a block that is not known or arrays that do not fit it.
    """
    known = known_blocks(adapted=True)
    if vector.block not in known:
        raise UsageError(f"no block {vector.block!r}; known are {', '.join(sorted(known))}")
    try:
        block = known[vector.block].rebuilt(vector.parameters, vector.arrays["rom"])
        memory = {name: array.copy() for name, array in vector.arrays["memory"].items()}
        block = block.with_memory(memory)
        start, count = vector.parameters["start"], vector.parameters["tokens"]
        wires = Wires.carrying(count, start, vector.arrays["in"])
        block.run(ops, wires)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(f"block {vector.block}: its vector is not whole: {error!r}") from None
    return _outputs(block, wires, start, start + count)


def expected(vector: Vector) -> Arrays:
    """The responses that a vector holds, by "role.name"."""
    return {
        f"{role}.{name}": array
        for role in ("out", "memory_out")
        for name, array in vector.arrays[role].items()
    }


def _observed(ops: ModuleType, block: Block, wires: Wires, layer: int | None, rows: int) -> Vector:
    """Run the block and note what it was given and what it answered."""
    part = block.for_pass(wires).cut(rows)
    start, end = wires.start, wires.start + wires.tokens.size
    vector = Vector(block.name, layer, {"start": start, "tokens": end - start, **part.parameters})
    vector.arrays["in"] = {name: getattr(wires, name).copy() for name in block.reads}
    vector.arrays["rom"] = part.rom
    memory = block.memory.items()
    vector.arrays["memory"] = {name: array[:end].copy() for name, array in memory}  # before
    block.run(ops, wires)
    for name, array in _outputs(block, wires, start, end).items():
        role, signal = name.split(".", 1)
        vector.arrays[role][signal] = part.cut_output(signal, array).copy()
    return vector


def _outputs(block: Block, wires: Wires, start: int, end: int) -> Arrays:
    outputs = {f"out.{name}": getattr(wires, name) for name in block.writes}
    if block.writes_memory:
        memory = block.memory.items()
        outputs |= {f"memory_out.{name}": array[start:end] for name, array in memory}
    return outputs

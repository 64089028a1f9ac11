"""The emulator's signals as a VCD file, under the names that the RTL's ports have.

A block is a scope and its output ports are what it holds, so that a viewer shows model and RTL
side by side. A stream's beats come one a cycle and end with the wave that leaves the block; a scale
stands with the last of them, since no wave of its own says when it is ready.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from vcd import VCDWriter

from emulator.blocks.block import Block
from emulator.blocks.wires import Wires
from emulator.chip import Chip
from emulator.errors import UsageError
from emulator.rtl.bench import output_values, rtl_of
from emulator.rtl.pipeline import Port
from emulator.rtl.simulate import beats_of
from emulator.silicon.spec import ChipSpec
from emulator.timing.schedule import token_schedule
from emulator.verification.vector_files import Vector


@dataclass(frozen=True)
class Beats:
    """What one port gives: its words, the first of them in cycle `begin`."""

    scope: str
    port: Port
    begin: int
    words: list[int]


def write_vcd(file: Path, chip: Chip, spec: ChipSpec, tokens: list[int]) -> int:
    """The last of `tokens` on its way through the chip, 1 ns a cycle; returns its cycles."""
    found = list(_beats(chip, spec, tokens))
    with file.open("w", encoding="ascii") as out, VCDWriter(out, timescale="1 ns") as writer:
        changes = []
        for at, beats in enumerate(found):
            name, size = beats.port.name, len(beats.port.data)
            data = writer.register_var(beats.scope, name, "wire", size, init=0)
            valid = writer.register_var(beats.scope, f"{name}_valid", "wire", 1, init=0)
            end = beats.begin + len(beats.words)
            changes += [(beats.begin + i, at, data, word) for i, word in enumerate(beats.words)]
            changes += [(beats.begin, at, valid, 1), (end, at, valid, 0)]
        for cycle, _, variable, value in sorted(changes, key=lambda change: change[:2]):
            writer.change(variable, cycle, value)
    return max(beats.begin + len(beats.words) for beats in found) - 1


def _beats(chip: Chip, spec: ChipSpec, tokens: list[int]) -> Iterator[Beats]:
    """Runs the tokens one by one, and looks at every block of the last one."""
    chip.rewind(0)
    for token in tokens[:-1]:
        chip.forward([token])
    start = chip.position
    wires = Wires(np.array(tokens[-1:], np.int64), start, False)
    for part in token_schedule(chip.stages, spec, start + 1):
        seen: dict[str, int] = {}
        for step in part.steps:
            if step.block not in part.stage.blocks:
                continue  # the sequencer gives no signal
            vector = _vector(step.block, chip, wires)
            try:
                dut = rtl_of(step.block, spec, start + 1)
            except UsageError:
                continue  # a block that is a wire, or has no RTL, has no ports
            again = seen[step.block.name] = seen.get(step.block.name, 0) + 1
            scope = f"{part.stage.name.replace(' ', '_')}.{step.block.name}"
            scope += f"_{again}" if again > 1 else ""
            for port in dut.outputs:
                values = output_values(dut, vector, port.name)
                words = beats_of(port, values)
                begin = part.begin + step.leaves.last - len(words) + 1
                yield Beats(scope, port, begin, words)
    chip.tokens.append(tokens[-1])


def _vector(block: Block, chip: Chip, wires: Wires) -> Vector:
    """The block's signals, run here; without what a bench needs besides."""
    vector = Vector(block.name, None, {"start": wires.start, "tokens": 1})
    vector.arrays["in"] = {name: getattr(wires, name).copy() for name in block.reads}
    block.run(chip.ops, wires)
    vector.arrays["out"] = {name: getattr(wires, name).copy() for name in block.writes}
    if block.writes_memory:
        at = slice(wires.start, wires.start + 1)
        vector.arrays["memory_out"] = {name: array[at] for name, array in block.memory.items()}
    return vector

# amaranth: UnusedElaboratable=no
"""A joined layer beside the emulator: the residual stream behind each half, and the cycles."""

from __future__ import annotations

import numpy as np

from emulator.blocks.block import Block
from emulator.blocks.residual_add import ResidualAdd
from emulator.blocks.wires import Int32, Wires
from emulator.chip import Stage
from emulator.rtl.bench import Bench
from emulator.rtl.layer import LayerRtl
from emulator.silicon.cost import Wave
from emulator.silicon.spec import ChipSpec
from emulator.timing.schedule import timed_blocks
from kernels import reference


def layer_bench(blocks: list[Block], spec: ChipSpec, residual: Int32, start: int) -> Bench:
    """One token, residual int32[hidden], at a position behind those that the KV SRAM holds."""
    dut = LayerRtl(blocks, spec, start + 1)
    wires = Wires.carrying(1, start, {"residual": residual.reshape(1, -1)})
    wave, halves = Wave(0, dut.inputs[0].beats - 1), []
    for block in blocks:
        block.run(reference, wires)
        if isinstance(block, ResidualAdd):
            halves.append(np.ravel(wires.residual))
    for block in timed_blocks(Stage("layer", blocks, 0)):
        wave = block.cost(spec, start + 1).after(wave)
    outputs = {"halves": np.concatenate(halves), "residual_out": halves[-1]}
    inputs = {"residual": residual, "start": np.array([start])}
    return Bench(dut, inputs, outputs, wave.last)

# amaranth: UnusedElaboratable=no
"""The joined chip beside the emulator: tokens, the residual stream, and the cycles of them all."""

from __future__ import annotations

import numpy as np

from emulator.blocks.residual_add import ResidualAdd
from emulator.blocks.wires import Wires
from emulator.chip import Chip
from emulator.errors import UsageError
from emulator.rtl.bench import Bench
from emulator.rtl.chip import ChipRtl
from emulator.silicon.spec import ChipSpec
from emulator.timing.schedule import token_cycles

MOST_WEIGHTS = 1_000_000  # a chip of more is no circuit that a simulator on one computer holds


def chip_bench(chip: Chip, spec: ChipSpec, prompt: list[int], reply: int) -> Bench:
    """From the prompt to so many tokens of its answer.

    Raises UsageError for a model too large, ChipError for a chip whose blocks cannot be joined.
    """
    blocks = [block for stage in chip.stages for block in stage.blocks]
    matrices = [matrix for block in blocks for matrix in block.matrices_by_name.values()]
    weights = sum(m.rows * m.columns for m in matrices)
    if weights > MOST_WEIGHTS:
        raise UsageError(
            f"--chip: {weights:,} weights; a joined chip in RTL has at most {MOST_WEIGHTS:,}"
        )
    context = len(prompt) + reply
    if context > chip.context:
        raise UsageError(f"--chip: {context} tokens do not fit {chip.context} positions")
    dut = ChipRtl(chip.stages, spec, context, len(prompt))
    tokens, residuals, cycles = list(prompt), [], 0
    for position in range(context):
        with_head = position >= len(prompt) - 1
        best, seen = _pass(chip, tokens[position], position, with_head)
        residuals += seen
        cycles += sum(token_cycles(chip.stages, spec, position + 1, with_head).values())
        if with_head:
            tokens.append(best)
    outputs = {"token": np.array(tokens), "residual": np.concatenate(residuals)}
    return Bench(dut, {"prompt": np.array(prompt)}, outputs, cycles)


def _pass(chip: Chip, token: int, position: int, with_head: bool) -> tuple[int, list[np.ndarray]]:
    """The best next token, if the head is asked, and the residual stream behind half layers."""
    wires = Wires(np.array([token], np.int64), position, False)
    seen = []
    for stage in chip.stages:
        if stage.name == "head" and not with_head:
            break
        for block in stage.blocks:
            block.run(chip.ops, wires)
            if isinstance(block, ResidualAdd):
                seen.append(np.ravel(wires.residual).astype(np.int64))
    return int(np.ravel(wires.top)[0]) if with_head else 0, seen

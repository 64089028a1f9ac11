"""The whole chip in RTL: the emulator's commit log, line by line, in the cycles that it counts."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

pytest.importorskip("amaranth")

from emulator.chip import Chip
from emulator.rtl.chip import ChipRtl
from emulator.rtl.chip_run import commit_lines, run_chip
from emulator.timing.schedule import token_cycles
from emulator.verification.vectors import commit_log
from kernels import reference
from tests.support import tiny_model
from tests.support.described import described
from weights.rom import RomImage, open_image

PROMPT = [5, 257, 17, 3, 99, 200, 7, 250]
SMALLEST = {
    "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 32, "vocab_size": 258,
}  # fmt: skip


def lines_and_cycles(image: RomImage, prompt: list[int], reply: int) -> None:
    """Runs the RTL from the prompt to the last position, and asks the emulator for the same."""
    context, spec = len(prompt) + reply, described()
    chip = Chip(image, context=context, ops=reference)
    run = run_chip(ChipRtl(chip.stages, spec, context, len(prompt)), prompt)
    assert run.tokens[: len(prompt)] == prompt
    for position, lines in enumerate(commit_lines(run, chip.stages, len(prompt))):
        wanted = list(commit_log(chip, run.tokens[: position + 1]))
        if position >= len(prompt) - 1:
            assert len(lines) == len(wanted)
        assert lines == wanted[: len(lines)]
    counted = [token_cycles(chip.stages, spec, n + 1, n >= len(prompt) - 1) for n in range(context)]
    assert run.cycles == sum(sum(one.values()) for one in counted)


@pytest.mark.slow
def test_the_smallest_chip(tmp_path: Path, monkeypatch):
    """Two layers of 32 values: two prompt tokens and two of the reply."""
    config = copy.deepcopy(tiny_model.TINY_CONFIG) | SMALLEST
    monkeypatch.setattr(tiny_model, "TINY_CONFIG", config)
    folder = tiny_model.write_tiny_checkpoint(tmp_path / "in", tied=False)
    lines_and_cycles(open_image(tiny_model.compile_tiny(folder, tmp_path / "out")), PROMPT[:2], 2)


@pytest.mark.slow
def test_the_tiny_chip(tiny_image: RomImage):
    """Eight prompt tokens and eight of the reply, with a tied head and its final gain."""
    lines_and_cycles(tiny_image, PROMPT, 8)

"""The whole chip in RTL: the emulator's commit log, line by line, in the cycles that it counts."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

pytest.importorskip("amaranth")


from emulator.chip import Chip
from emulator.errors import ChipError, UsageError
from emulator.rtl import chip_bench as chip_bench_module
from emulator.rtl.chip import ChipRtl
from emulator.rtl.chip_bench import chip_bench
from emulator.rtl.chip_run import commit_lines, run_chip
from emulator.rtl.test_bench import bench_text
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
    lines_and_cycles(smallest(tmp_path, monkeypatch), PROMPT[:2], 2)


@pytest.mark.slow
def test_the_tiny_chip(tiny_image: RomImage):
    """Eight prompt tokens and eight of the reply, with a tied head and its final gain."""
    lines_and_cycles(tiny_image, PROMPT, 8)


def smallest(tmp_path: Path, monkeypatch, **changed: int) -> RomImage:
    config = copy.deepcopy(tiny_model.TINY_CONFIG) | SMALLEST | changed
    monkeypatch.setattr(tiny_model, "TINY_CONFIG", config)
    folder = tiny_model.write_tiny_checkpoint(tmp_path / "in", tied=False)
    return open_image(tiny_model.compile_tiny(folder, tmp_path / "out"))


def test_a_bench_of_the_chip(tmp_path: Path, monkeypatch):
    """What `rtl --whole` compares: tokens, residual streams, and the cycles of them all."""
    image, spec = smallest(tmp_path, monkeypatch, num_hidden_layers=1), described()
    bench = chip_bench(Chip(image, context=5, ops=reference), spec, PROMPT[:2], 3)
    chip = Chip(image, context=5, ops=reference)
    tokens = PROMPT[:2]
    for n in range(1, 5):
        wires = chip.forward(tokens[n - 1 : n])
        if n >= 2:
            tokens.append(int(wires.top[0]))
    assert bench.outputs["token"].tolist()[:5] == tokens
    assert bench.outputs["residual"].size == 2 * 5 * 32
    steps = [token_cycles(chip.stages, spec, n + 1, n >= 1) for n in range(5)]
    assert bench.cycles == sum(sum(one.values()) for one in steps)
    text = bench_text(bench, "chip")
    assert "logic [1023:0] residual;" in text
    assert f"localparam int CYCLES = {bench.cycles};" in text


def test_a_chip_that_no_simulator_holds(monkeypatch, tiny_image: RomImage):
    monkeypatch.setattr(chip_bench_module, "MOST_WEIGHTS", 1000)
    with pytest.raises(UsageError, match="weights"):
        chip_bench(Chip(tiny_image, ops=reference), described(), PROMPT, 8)


def test_blocks_that_are_not_joined(qwen3_image: RomImage):
    """Biases, norms of heads and windows: refused in one line, never left out in silence."""
    with pytest.raises(ChipError, match="no place in the joined chip"):
        chip_bench(Chip(qwen3_image, ops=reference), described(), PROMPT, 2)

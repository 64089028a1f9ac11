"""Benchmarks: foreign load, what llama.cpp's tools print, and one line where these are absent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.llama_tools import batched_bench, llama_bench
from benchmarks.load import Load, machine_seconds, own_seconds
from tests.support.paths import ROOT


def script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)
    return path


def test_peers_without_llama(tmp_path: Path):
    absent = script(tmp_path / "python", "exit 1")
    command = [sys.executable, "benchmarks/peers.py", "--llama-python", str(absent)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr.startswith("skipped: ")
    assert result.stderr.count("\n") == 1


def test_a_llama_bench_is_read(tmp_path: Path):
    """Rows as llama-bench's -o json writes them: a prompt, then a decode."""
    rows = [
        {"n_prompt": 128, "n_gen": 0, "avg_ts": 64.0},
        {"n_prompt": 0, "n_gen": 16, "avg_ts": 8.0},
    ]
    tool = script(tmp_path / "bench", f'echo "$@" > {tmp_path}/asked', f"echo '{json.dumps(rows)}'")
    found = llama_bench(tool, Path("m.gguf"), 2, 128, 16, ["-rtr", "1"])
    assert found == {"prefill": 2.0, "decode": 0.125}
    asked = (tmp_path / "asked").read_text()
    assert asked == "-m m.gguf -p 128 -n 16 -t 2 -r 1 -o json -rtr 1\n"


def test_a_batched_bench_is_read(tmp_path: Path):
    """One line of JSON for each number of sequences, between others."""
    lines = [json.dumps({"pl": n, "tg": 16, "t_tg": 4.0 * n}) for n in (1, 8)]
    tool = script(tmp_path / "bench", "echo", *(f"echo '{line}'" for line in lines), "echo perf:")
    assert batched_bench(tool, Path("m.gguf"), 2, 64, 16, [1, 8]) == {1: 0.25, 8: 2.0}


def test_a_tool_that_fails_ends_the_benchmark(tmp_path: Path):
    tool = script(tmp_path / "bench", "echo no such model >&2", "exit 3")
    with pytest.raises(SystemExit, match="status 3\nno such model"):
        llama_bench(tool, Path("m.gguf"), 2, 128, 16, [])


def test_a_round_beside_foreign_work_is_thrown_away(monkeypatch):
    """Half a core of others beside the first two rounds, then none."""
    clock, busy = (
        iter(range(100)),
        iter([0, 0.5, 1, 1.5, 2, 2, 9, 9.9, 9, 9.9, 9, 9.9, 9, 9.9, 9, 9.9]),
    )
    monkeypatch.setattr("benchmarks.load.time.perf_counter", lambda: next(clock) / 2)
    monkeypatch.setattr("benchmarks.load.machine_seconds", lambda: next(busy))
    monkeypatch.setattr("benchmarks.load.own_seconds", lambda pids: 0.0)
    load, runs = Load(), iter("abcdefgh")
    assert load.round(lambda: next(runs)) == "c"
    assert (load.kept, load.thrown, load.at_all_costs) == (1, 2, 0)
    assert load.round(lambda: next(runs)) == "h"
    assert (load.kept, load.thrown, load.at_all_costs) == (2, 6, 1)
    assert load.most_cores > 0.5


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_this_process_uses_is_its_own():
    before = own_seconds([])
    assert 0 < before <= own_seconds([]) < machine_seconds()

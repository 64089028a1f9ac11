"""llama.cpp's own benchmark programs, and ik_llama.cpp's: run once a round, read as JSON."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

KEPT_POSITIONS = 64  # more than a batch needs, of each sequence


def llama_bench(
    tool: Path, model: Path, threads: int, prompt: int, tokens: int, more: list[str]
) -> dict[str, float]:
    """Seconds of a prefill of so many tokens, and of one decode step, by llama-bench."""
    sizes = ["-p", str(prompt), "-n", str(tokens), "-t", str(threads), "-r", "1"]
    text = _output([str(tool), "-m", str(model), *sizes, "-o", "json", *more])
    found: dict[str, float] = {}
    for row in json.loads(text[text.index("[") :]):
        what = "decode" if row["n_gen"] else "prefill"
        found[what] = (1 if row["n_gen"] else row["n_prompt"]) / row["avg_ts"]
    return found


def batched_bench(
    tool: Path, model: Path, threads: int, context: int, tokens: int, sequences: list[int]
) -> dict[int, float]:
    """Seconds of a decode step of so many sequences together, by llama-batched-bench."""
    positions = max(sequences) * (context + tokens + KEPT_POSITIONS)
    sizes = ["-c", str(positions), "-b", "512", "-ub", "512", "-t", str(threads)]
    batch = ["-npp", str(context), "-ntg", str(tokens), "-npl", ",".join(map(str, sequences))]
    text = _output([str(tool), "-m", str(model), *sizes, *batch, "--output-format", "jsonl"])
    rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return {row["pl"]: row["t_tg"] / row["tg"] for row in rows}


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]}: status {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout

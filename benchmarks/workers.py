"""What `compile --workers` costs and gives: two layers of Llama 3.1 8B's widths, random weights.

    python -m benchmarks.workers [--layers 2] [--rounds 3] [--workers 2,4] [--quantiser fast]

One process and workers take turns, so that a busy machine slows all of them; the best round of each
is printed, with the CPU time of all processes, the bytes that moved, and whether all images are the
same. One JSON object. The vocabulary is short: a table is little beside a layer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.checkpoint import LLAMA_31_8B, write_checkpoint
from tests.support.tiny_model import tiny_tokenizer

ROOT = Path(__file__).parent.parent
VOCABULARY = 256


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", default="2,4")
    parser.add_argument("--quantiser", default="fast")
    args = parser.parse_args()
    counts = [None, *args.workers.split(",")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hub = {**LLAMA_31_8B, "num_hidden_layers": args.layers, "vocab_size": VOCABULARY}
        hub |= {"bos_token_id": 0, "eos_token_id": 1}
        checkpoint = write_checkpoint(folder / "checkpoint", hub, tiny_tokenizer())
        runs = [
            {
                count: _compile(checkpoint, folder / "image", args.quantiser, count)
                for count in counts
            }
            for _ in range(args.rounds)
        ]
    hashes = {run["sha256"] for one in runs for run in one.values()}
    best = {
        count or "one process": min((one[count] for one in runs), key=lambda run: run["seconds"])
        for count in counts
    }
    report = {"layers": args.layers, "quantiser": args.quantiser, "rounds": args.rounds}
    print(json.dumps(report | {"same_bytes": len(hashes) == 1, "best": best}, indent=1))
    return int(len(hashes) != 1)


def _compile(checkpoint: Path, out: Path, quantiser: str, workers: str | None) -> dict[str, Any]:
    """Seconds on the wall and of CPU, megabytes moved, and the image's hash."""
    words = [sys.executable, "-m", "emulator", "compile", str(checkpoint), "--out", str(out)]
    words += ["--quantiser", quantiser, "--mix", "3"] + (["--workers", workers] if workers else [])
    begin, cpu = time.perf_counter(), _cpu()
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - begin
    moved = re.search(r"([\d,.]+) MB moved", done.stderr)
    digest = hashlib.sha256()
    for file in sorted(out.iterdir()):
        digest.update(file.read_bytes())
        file.unlink()
    out.rmdir()
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(_cpu() - cpu, 1),
        "moved_mb": float(moved[1].replace(",", "")) if moved else 0.0,
        "sha256": digest.hexdigest(),
    }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    raise SystemExit(main())

"""Llama 3.1 8B at full size without its weights: make a checkpoint, compile it, ask it something.

    python -m benchmarks.full_size [--layers 32] [--folder DIR] [--keep]

Needs 16 GB of disk for the checkpoint and 6 GB for the image, and `llama-models` for the
vocabulary. Every step is a command as a user types it; prints one JSON object. Fails beyond
6 GB of memory and 25 minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.checkpoint import LLAMA_31_8B, write_checkpoint

MOST_BYTES, MOST_SECONDS = 6e9, 25 * 60
ROOT = Path(__file__).parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "llama-8b")
    parser.add_argument("--keep", action="store_true", help="leave checkpoint and image there")
    args = parser.parse_args()
    from tests.support.llama3_vocabulary import llama3_tokenizer

    hub = {**LLAMA_31_8B, "num_hidden_layers": args.layers}
    checkpoint, image = args.folder / f"checkpoint-{args.layers}", args.folder / "image"
    try:
        begin = time.perf_counter()
        if not checkpoint.exists():
            write_checkpoint(checkpoint, hub, llama3_tokenizer())
        made = time.perf_counter() - begin
        words = ("--mix", "6", "--quantiser", "fast", "--out", image, "--context", 6144)
        compiled = _emulator("compile", checkpoint, *words)
        answer = _emulator("run", "Hello", "--image", image, "--max-tokens", 4)
    finally:
        if not args.keep:
            shutil.rmtree(args.folder, ignore_errors=True)
    report = {"layers": args.layers, "made_seconds": made, "compile": compiled, "run": answer}
    print(json.dumps(report, indent=1))
    return int(compiled["peak_rss_bytes"] > MOST_BYTES or compiled["seconds"] > MOST_SECONDS)


def _emulator(*words: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "emulator", *map(str, words), "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


if __name__ == "__main__":
    sys.exit(main())

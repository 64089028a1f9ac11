"""Run the command lines that README.md and docs/ print; one line each with status and seconds.

    .venv/bin/python docs/run_commands.py           # those of this program, which take minutes
    .venv/bin/python docs/run_commands.py cost plan # only these commands

What needs something of the reader's (another program, a server, weights that are not here) is
listed as left out. Run from the repository's root, after `make chat`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from docs.command_lines import command_lines  # noqa: E402
from emulator.cli import command_names  # noqa: E402

LEFT_OUT = {  # a word of a line, and why the line is not run
    "serve": "a server does not end",
    "llama-3.1-8b chat": "weights of 16 GB",
    "tcp://": "a scheduler of the reader's",
    "--record": "changes what is committed",
    "build/docs": "a file or folder of the reader's",
    "COMMAND": "stands for any command",
}
LIMIT_S = 1800


def main() -> int:
    """Run them all; 1 if any failed."""
    wanted = set(sys.argv[1:])
    (ROOT / "build" / "docs").mkdir(parents=True, exist_ok=True)
    failed, seen = 0, set()
    for line in command_lines(command_names()):
        words = line.ours
        if words is None or not words or (wanted and words[0] not in wanted):
            continue
        text = " ".join(words)
        if text in seen:
            continue
        seen.add(text)
        reason = next((why for word, why in LEFT_OUT.items() if word in text), None)
        if reason:
            print(f"left out  {text}: {reason}", flush=True)
            continue
        begin = time.perf_counter()
        command = [sys.executable, "-m", "emulator", *words]
        done = subprocess.run(
            command, cwd=ROOT, input="hi\n", capture_output=True, text=True, timeout=LIMIT_S,
            check=False,
        )  # fmt: skip
        failed += done.returncode != 0
        print(f"{done.returncode:>3} {time.perf_counter() - begin:7.1f} s  {text}", flush=True)
        if done.returncode:
            print(done.stderr.strip().splitlines()[-1:])
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""From a fresh cache folder to the first answer of `chat`: a timeline, and the silences in it.

    .venv/bin/python -m benchmarks.first_answer            # on a terminal of its own
    .venv/bin/python -m benchmarks.first_answer --pipe     # through pipes
    .venv/bin/python -m benchmarks.first_answer --wait     # with the calibrated masks, as `run` has

The packages and the small model's file are there; kernels, the quantiser's machine code and masks
are not. Times are of this machine, as busy as it is; CPU seconds are those of the chat and of all
processes that it started and waited for, the one that makes the better masks among them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from emulator.images.embedded import FILE, small_checkpoint

QUESTION = b"What is the capital of France?\n"
ANSWERED = b"[chip: "
LIMIT_S = 1800.0


@dataclass
class Timeline:
    """What came out, and when, in seconds from the start."""

    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    answered_s: float | None = None
    cpu_s: float = 0.0

    @property
    def text(self) -> str:
        return b"".join(piece for _, piece in self.pieces).decode("utf-8", "replace")

    def silences(self) -> list[tuple[float, float]]:
        """(length, begin) of every pause until the first answer's end, longest first."""
        times = [0.0, *(at for at, _ in self.pieces if at <= (self.answered_s or LIMIT_S))]
        pauses = [(b - a, a) for a, b in itertools.pairwise(times)]
        return sorted(pauses, reverse=True)


def first_answer(home: Path, terminal: bool, *options: str) -> Timeline:
    """Run `chat` with a cache folder that holds the checkpoint alone, and ask one question."""
    (home / "checkpoints").mkdir(parents=True)
    (home / "checkpoints" / FILE).symlink_to(small_checkpoint().resolve())
    environment = {
        **os.environ,
        "HARDWIRED_HOME": str(home),
        "NUMBA_CACHE_DIR": str(home / "numba"),
        "TERM": "xterm",
    }
    command = [sys.executable, "-m", "emulator", "chat", *options]
    before = _cpu_s()
    line, begin = Timeline(), time.monotonic()
    if terminal:
        import pty

        ours, theirs = pty.openpty()
        ends = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    else:
        ours, theirs = os.pipe()
        ends = {"stdin": subprocess.PIPE, "stdout": theirs, "stderr": theirs}
    chat = subprocess.Popen(command, env=environment, **ends)  # type: ignore[call-overload]
    os.close(theirs)
    try:
        if not terminal:
            chat.stdin.write(QUESTION)
            chat.stdin.flush()
        _follow(line, begin, ours, terminal)
        os.close(ours) if terminal else chat.stdin.close()
        chat.wait(timeout=60)
    finally:
        chat.kill()
        chat.wait()
    line.cpu_s = _cpu_s() - before
    return line


def _follow(line: Timeline, begin: float, ours: int, terminal: bool) -> None:
    """Note what comes out until the first answer is there; on a terminal, answer its prompt."""
    asked, seen = not terminal, b""
    while time.monotonic() < begin + LIMIT_S:
        if not select.select([ours], [], [], 1)[0]:
            continue
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:  # of a terminal whose other side is closed
            return
        if not piece:
            return
        now = time.monotonic() - begin
        line.pieces.append((now, piece))
        seen += piece
        if not asked and b"\n> " in seen:
            os.write(ours, QUESTION)
            asked = True
        if ANSWERED in seen:
            line.answered_s = now
            return


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipe", action="store_true", help="not on a terminal")
    parser.add_argument("--wait", action="store_true", help="with the calibrated masks")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="first-answer-") as folder:
        options = ("--wait",) if args.wait else ()
        line = first_answer(Path(folder) / "home", not args.pipe, *options)
    longest = line.silences()[:3]
    if args.json:
        report = {"answered_s": line.answered_s, "cpu_s": line.cpu_s, "silences_s": longest}
        print(json.dumps({"schema": 1, "terminal": not args.pipe, "wait": args.wait} | report))
        return
    if args.pipe:
        for at, piece in line.pieces:
            for text in piece.decode("utf-8", "replace").splitlines():
                print(f"{at:7.1f} s  {text}")
    print(f"first answer after {line.answered_s or float('nan'):.1f} s, {line.cpu_s:.1f} s of CPU")
    pauses = ", ".join(f"{length:.1f} s from {begin:.1f} s on" for length, begin in longest)
    print(f"longest silences: {pauses}")


if __name__ == "__main__":
    main()

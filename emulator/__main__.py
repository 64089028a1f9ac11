"""`python -m emulator`, and the console script."""

from __future__ import annotations

import os
import sys

from emulator.installation import problem


def main() -> int:
    """Look whether our packages are ours and whole, then run the command line."""
    if line := problem():
        print(f"error: {line}", file=sys.stderr)
        return 2
    from emulator.streams import open_streams

    open_streams()
    if line := environment_problem():
        print(f"error: {line}", file=sys.stderr)
        return 2
    from emulator.cli import main as run  # only now: it loads all commands

    return run()


def environment_problem() -> str | None:
    """What is wrong with a variable that a library would stumble over; None if nothing is."""
    threads = os.environ.get("NUMBA_NUM_THREADS")
    if threads is not None and not (threads.isascii() and threads.isdigit() and int(threads) > 0):
        return f"NUMBA_NUM_THREADS must be a whole number from 1, not {threads!r}"
    return None


if __name__ == "__main__":
    raise SystemExit(main())

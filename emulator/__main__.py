"""`python -m emulator`, and the console script."""

from __future__ import annotations

import sys

from emulator.installation import problem


def main() -> int:
    """Look whether our packages are ours and whole, then run the command line."""
    if line := problem():
        print(f"error: {line}", file=sys.stderr)
        return 2
    from emulator.cli import main as run  # only now: it loads all commands

    return run()


if __name__ == "__main__":
    raise SystemExit(main())

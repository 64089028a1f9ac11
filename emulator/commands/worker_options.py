"""--workers: the option of every command whose work is many independent jobs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulator.workers.pool import Workers


def add_workers_option(parser: argparse.ArgumentParser) -> None:
    """--workers N or tcp://HOST:PORT."""
    parser.add_argument(
        "--workers",
        metavar="W",
        help="processes on this computer, or a Dask scheduler's tcp://HOST:PORT; same result",
    )


@contextmanager
def chosen_workers(args: argparse.Namespace) -> Iterator[Workers | None]:
    """The workers of --workers, or None; says on standard error where they are and what they did.

    Raises UsageError or InstallationError.
    """
    if args.workers is None:
        yield None
        return
    from emulator.workers.pool import open_workers

    with open_workers(args.workers) as workers:
        if workers.dashboard:
            print(f"{workers.name}; dashboard: {workers.dashboard}", file=sys.stderr)
        yield workers
        print(workers.closing_line, file=sys.stderr)

"""The option --plot, and saving to its file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from emulator.errors import UsageError


def add_plot_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it: a .svg, .png or .pdf")


def save_plot(path: Path, draw: Callable[[Path], None]) -> None:
    """Draw to a file. Raises UsageError without matplotlib, or if the file cannot be written."""
    if path.is_dir():  # matplotlib would write beside it
        raise UsageError(f"--plot {path}: is a folder")
    try:
        draw(path)
    except ImportError:
        raise UsageError("--plot needs matplotlib: pip install matplotlib") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"--plot {path}: {getattr(error, 'strerror', None) or error}") from None

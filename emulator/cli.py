"""The command line. Commands import what is heavy inside, so that --help is instant."""

from __future__ import annotations

import argparse
import sys

from emulator import __version__
from emulator.commands import chat, compare, cycles, run, sensitivity, trace, validate
from emulator.errors import EmulatorError

COMMANDS = (chat, run, cycles, validate, sensitivity, trace, compare)  # in the order of --help


def main(argv: list[str] | None = None) -> int:
    """Run one command; 2 for the user's mistakes, with one line on standard error."""
    args = _parser().parse_args(argv)
    try:
        return int(args.command(args))
    except EmulatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emulator", description="A Llama hardwired in silicon, emulated."
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.register(subparsers)
    return parser

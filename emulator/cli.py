"""The command line. Commands import what is heavy inside, so that --help is instant."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from emulator import __version__
from emulator.commands import (
    area,
    chat,
    chips,
    compare,
    compile_masks,
    cycles,
    evaluate,
    faults,
    infer,
    info,
    models,
    run,
    sensitivity,
    serve,
    trace,
    validate,
    vectors,
    verify,
)
from emulator.errors import EmulatorError

COMMANDS = (  # in the order of --help
    *(chat, run, serve, compile_masks, models, info, evaluate),
    *(cycles, area, infer, validate, sensitivity, compare, chips, trace),
    *(verify, vectors, faults),
)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaint is one line, like every other error of ours."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def main(argv: list[str] | None = None) -> int:
    """Run one command; 2 for the user's mistakes, with one line on standard error."""
    args = _parser().parse_args(argv)
    try:
        return int(args.command(args))
    except EmulatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130  # as shells report Ctrl+C
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m emulator", description="A Llama hardwired in silicon, emulated."
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.register(subparsers)
    return parser

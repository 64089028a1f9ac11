"""The command line. Commands import what is heavy inside, so that --help is instant."""

from __future__ import annotations

import argparse
import errno
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from emulator import __version__
from emulator.commands import (
    area,
    chat,
    chips,
    compare,
    compile_masks,
    cost,
    cycles,
    evaluate,
    faults,
    infer,
    info,
    models,
    plan,
    repair,
    respin,
    rtl,
    run,
    sensitivity,
    serve,
    trace,
    validate,
    vectors,
    verify,
)
from emulator.commands.completion import SCRIPT, SHELLS, PrintCompletion
from emulator.errors import EmulatorError, UsageError
from emulator.streams import discard_output, flush_output

COMMANDS = {  # in the order of --help, under its headings
    "talk": (chat, run, serve),
    "masks": (compile_masks, models, info, respin),
    "quality": (evaluate,),
    "time": (cycles, area, infer, validate, sensitivity, compare, chips, trace),
    "traffic and cost": (plan, cost),
    "proof": (verify, vectors, rtl, faults, repair),
}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaint is one line, like every other error of ours."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


class FrontParser(Parser):
    """The parser in front of the commands, whose --help lists them under headings."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.listing = ""
        self.commands = self.add_subparsers(
            required=True, metavar="COMMAND", parser_class=Parser, prog=self.prog
        )

    def add_heading(self, heading: str) -> None:
        self.listing += f"\n{heading}:\n"

    def add_parser(self, name: str, *, help: str, **options: Any) -> Parser:
        """A command, listed under the last heading by its name and `help`."""
        self.listing += f"    {name:<11}  {help}\n"
        return self.commands.add_parser(name, help=help, **options)

    def format_help(self) -> str:
        options = self._get_formatter()
        options.start_section("options")
        options.add_arguments(a for a in self._actions if a.option_strings)
        options.end_section()
        return f"{self.format_usage()}\n{self.description}\n{self.listing}\n{options.format_help()}"


def main(argv: list[str] | None = None) -> int:
    """Run one command; 2 for the user's mistakes, with one line on standard error."""
    words = sys.argv[1:] if argv is None else argv
    parser = _parser()
    _check_command(parser, words)
    args = parser.parse_args(words)
    try:
        return _run(args)
    except EmulatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends us without a word
        return 130  # as shells report Ctrl+C
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        discard_output()
        return 1


def _run(args: argparse.Namespace) -> int:
    """The command, with what the computer lacks told like a mistake of the user's."""
    try:
        status = int(args.command(args))
        flush_output()
        return status
    except MemoryError as error:
        told = str(error) or "less would do with a smaller --context, or a smaller model"
        raise UsageError(f"this computer has no memory left: {told}") from None
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS):
            raise
        place = f"{error.filename}: " if error.filename else ""
        discard_output()
        raise UsageError(f"{place}{error.strerror}") from None


def _parser() -> FrontParser:
    parser = FrontParser(prog=_name(), description="A Llama hardwired in silicon, emulated.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=SHELLS,
        metavar="SHELL",
        help="for bash, zsh or tcsh: a script that completes commands, options and files",
    )
    for heading, modules in COMMANDS.items():
        parser.add_heading(heading)
        for module in modules:
            module.register(parser)
    return parser


def command_names() -> set[str]:
    """What may stand behind `python -m emulator`."""
    return set(_parser().commands.choices)


def accepted(words: list[str]) -> bool:
    """Whether the command line is one that `main` would begin to obey."""
    try:
        _parser().parse_args(words)
    except SystemExit:
        return False
    return True


def _name() -> str:
    """What the user typed: the console script or the module."""
    typed = Path(sys.argv[0]).name.startswith(SCRIPT)
    return SCRIPT if typed else "python -m emulator"


def _check_command(parser: FrontParser, words: list[str]) -> None:
    """Refuse a command that does not exist, and name the one that is written most like it."""
    names = parser.commands.choices
    if words and not words[0].startswith("-") and words[0] not in names:
        from difflib import get_close_matches

        close = get_close_matches(words[0], names, n=1)
        hint = f": did you mean {close[0]!r}?" if close else ""
        parser.error(f"no command {words[0]!r}{hint}")

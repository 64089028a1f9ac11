"""`--print-completion`: what a shell needs to complete commands, options and file names.

By shtab, not argcomplete: it writes a script once, so that completing starts no Python.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHELLS = ("bash", "zsh", "tcsh")
SCRIPT = "hardwired-llama"  # the console script, which is what a shell can complete
NAMED_PATHS = ("model", "image", "checkpoint")  # a path or a name: text to argparse


class PrintCompletion(argparse.Action):
    """Print the script for a shell and end, as --version does."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, shell: Any, option: Any = None
    ) -> None:
        try:
            import shtab
        except ImportError:
            parser.error(f"{option} needs shtab: pip install shtab")
        for action in _actions(parser):
            if action.type is Path or action.dest in NAMED_PATHS:
                folder = action.metavar == "DIR"
                action.complete = shtab.DIRECTORY if folder else shtab.FILE  # type: ignore[attr-defined]
        parser.prog = SCRIPT
        print(shtab.complete(parser, shell))
        parser.exit()


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every option and argument of the parser and of its commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action

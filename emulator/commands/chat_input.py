"""What the user types: editing and history on a terminal, several lines, a pipe's lines."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROMPT, MORE = "> ", ". "
SEVERAL = '"""'  # around a message of several lines
HISTORY_LINES = 1000


@contextmanager
def open_input(history: Path) -> Iterator[None]:
    """Editing and history for a terminal; a pipe may hold bytes that are no text."""
    if not sys.stdin.isatty():
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")
        yield
        return
    try:
        import readline
    except ImportError:  # not on Windows, whose console edits lines by itself
        yield
        return
    with contextlib.suppress(OSError):  # none yet
        readline.read_history_file(history)
    readline.set_history_length(HISTORY_LINES)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a cache folder that cannot be written has no history
            history.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(history, os.O_CREAT | os.O_WRONLY, 0o600))
            readline.write_history_file(history)


def next_message() -> str | None:
    """What the user says next, or None at the end of the input; "" for a line that was dropped.

    A message of several lines stands between two SEVERAL. Ctrl+C drops what is typed.
    """
    try:
        line = _line(PROMPT)
        if not line.lstrip().startswith(SEVERAL):
            return line
        lines = [line.lstrip().removeprefix(SEVERAL)]
        while SEVERAL not in lines[-1]:
            lines.append(_line(MORE))
    except EOFError:
        if sys.stdin.isatty():
            print()  # leave the prompt's line
        return None
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            return None
        print("\n[Ctrl+D or /bye ends the chat]")
        return ""
    lines[-1] = lines[-1].partition(SEVERAL)[0]
    return "\n".join(lines).strip("\n")


def _line(prompt: str) -> str:
    return input(prompt if sys.stdin.isatty() else "")

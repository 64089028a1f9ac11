"""Standard streams that any environment may have closed, narrowed or filled."""

from __future__ import annotations

import contextlib
import io
import os
import sys

from emulator.errors import UsageError


def open_streams() -> None:
    """Make standard input, output and error usable.

    A closed one reads as empty, or takes what is written: else the next file that is opened would
    get its number. What the terminal's encoding cannot show is shown as escapes.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                opened = os.open(os.devnull, os.O_RDWR)
                if opened != number:
                    os.dup2(opened, number)
                    os.close(opened)
            mode = "r" if number == 0 else "w"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush_output() -> None:
    """Write out what was printed. Raises UsageError, once and for all, if it cannot be written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise UsageError(f"standard output cannot be written: {error.strerror}") from None


def discard_output() -> None:
    """Let the rest of standard output go nowhere: at its end Python flushes once more."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)

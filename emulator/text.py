"""Read a text to measure with, and cut its tokens into windows."""

from __future__ import annotations

from pathlib import Path

from emulator.errors import UsageError
from emulator.fields import read_bytes

MOST_BYTES = 1 << 30  # none of it is used beyond a few thousand tokens


def read_text(path: Path) -> str:
    """Read a plain file of at most MOST_BYTES of UTF-8 text. Raises UsageError, naming the file."""
    try:
        return read_bytes(path, MOST_BYTES, UsageError).decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8 text") from None


def windows_of(tokens: list[int], window: int, path: Path) -> list[list[int]]:
    """Cut tokens into windows of `window` tokens and drop the rest.

    Raises UsageError, naming the tokens' file, if there is not one whole window.
    """
    count = len(tokens) // window
    if count == 0:
        raise UsageError(f"{path}: {len(tokens)} tokens hold no window of {window}")
    return [tokens[i * window : (i + 1) * window] for i in range(count)]

"""A text to measure with: read from a file, and its tokens cut into windows."""

from __future__ import annotations

from pathlib import Path

from emulator.errors import UsageError


def read_text(path: Path) -> str:
    """A file of UTF-8 text. Raises UsageError, naming the file."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8 text") from None


def windows_of(tokens: list[int], window: int, path: Path) -> list[list[int]]:
    """As many whole windows of `window` tokens as there are, one after another.

    Raises UsageError, naming the file that the tokens are of, when they hold none.
    """
    count = len(tokens) // window
    if count == 0:
        raise UsageError(f"{path}: {len(tokens)} tokens hold no window of {window}")
    return [tokens[i * window : (i + 1) * window] for i in range(count)]

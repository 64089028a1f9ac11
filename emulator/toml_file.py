"""A TOML file, read with its size checked first."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from emulator.errors import EmulatorError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_BYTES = 1 << 20


def read_toml(path: Path, error: type[EmulatorError]) -> tuple[dict[str, Any], str]:
    """The tables of a plain file of at most MAX_BYTES, and its text. Raises `error`."""
    try:
        if path.exists() and not path.is_file():  # a folder, or a pipe that would never end
            raise error(f"{path}: cannot be read: no such file")
        if path.stat().st_size > MAX_BYTES:
            raise error(f"{path}: larger than {MAX_BYTES >> 10} KiB")
        text = path.read_text("utf-8")
        return tomllib.loads(text), text
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror}") from None
    except (ValueError, RecursionError) as problem:  # not UTF-8, too long a number, too deep
        raise error(f"{path}: not TOML: {problem}") from None

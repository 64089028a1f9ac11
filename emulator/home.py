"""The cache folder of this user."""

from __future__ import annotations

import os
from pathlib import Path

from emulator.errors import UsageError

HOME_VARIABLE = "HARDWIRED_HOME"


def home() -> Path:
    """The cache folder: HARDWIRED_HOME, or the platform's.

    Raises UsageError if this user has no home folder.
    """
    if chosen := os.environ.get(HOME_VARIABLE):  # a user without an entry has no other
        return Path(chosen)
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(cache) / "hardwired-llama"
    except RuntimeError:
        raise UsageError(f"no home folder; set {HOME_VARIABLE} to a folder for images") from None

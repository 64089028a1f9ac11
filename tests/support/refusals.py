"""What every refusal has in common: one error of the right kind, one line, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator.errors import EmulatorError


def leaves_nothing(checkpoint: Path) -> bool:
    out = checkpoint.parent / "out"
    return not out.exists() or list(out.iterdir()) == []


def refused(kind: type[EmulatorError], message: str, action: Callable[[], Any]) -> None:
    """`action` raises exactly `kind`, in one line that matches."""
    with pytest.raises(EmulatorError, match=message) as caught:
        action()
    assert caught.type is kind
    assert "\n" not in str(caught.value)

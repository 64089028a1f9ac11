"""The lower bounds of pyproject.toml as constraints for pip: `python tests/support/lowest.py`."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def lower_bounds(text: str) -> dict[str, str]:
    """Name and least version of each dependency of an installation; not of the extras."""
    listed = text.partition("\ndependencies = [")[2].partition("\n]")[0]
    return dict(re.findall(r'"([A-Za-z0-9_.-]+)>=([0-9.]+)[^"]*"', listed))


if __name__ == "__main__":
    for name, version in lower_bounds(PROJECT.read_text("utf-8")).items():
        print(f"{name}=={version}")

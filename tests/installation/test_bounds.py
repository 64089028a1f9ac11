"""What may be installed: floors without known holes, a lock that keeps to them."""

from __future__ import annotations

import re

from tests.support.lowest import PROJECT, lower_bounds
from tests.support.paths import ROOT

SAFE = {  # the first version without the hole
    "starlette": (0, 49, 1),  # CVE-2025-62727: a Range header of 60 KB took 21 s
    "h11": (0, 16),  # CVE-2025-43859: smuggled requests
    "jinja2": (3, 1, 6),  # CVE-2025-27516: a way out of the sandbox
    "llguidance": (1, 7),  # before it a tokenizer had one end token
}


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


def test_floors_are_safe():
    bounds = lower_bounds(PROJECT.read_text("utf-8"))
    assert len(bounds) >= 15
    for name, least in SAFE.items():
        assert numbers(bounds[name]) >= least, name


def test_the_lock_has_everything_with_hashes_above_the_floors():
    text = (ROOT / "requirements.lock").read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", " "))]
    locked = {}
    for line in lines:
        name, version = re.match(r"([A-Za-z0-9_.-]+)==(\S+)", line).groups()
        assert "--hash=sha256:" in line, line[:60]
        locked[name.lower().replace("_", "-")] = numbers(version)
    for name, least in lower_bounds(PROJECT.read_text("utf-8")).items():
        if name != "tomli":  # of Python 3.10 alone
            assert locked[name.lower().replace("_", "-")] >= numbers(least), name


def test_what_is_imported_is_declared():
    """h11 came only by way of uvicorn."""
    assert "h11" in lower_bounds(PROJECT.read_text("utf-8"))

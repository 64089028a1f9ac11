"""The preset chip with constants changed, also to values outside their ranges, for small models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from emulator.silicon.spec import ChipSpec, load_spec


def described(**values: float) -> ChipSpec:
    """`described(vector__lanes=32)`: the constant vector.lanes is 32, whatever its range says."""
    spec = load_spec()
    for key, value in values.items():
        section, name = key.split("__")
        part: Any = getattr(spec, section)
        changed = replace(part, **{name: replace(getattr(part, name), value=value)})
        spec = replace(spec, **{section: changed})
    return spec

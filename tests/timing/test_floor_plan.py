"""The floor plan takes the die apart and loses nothing of it."""

from __future__ import annotations

from collections import Counter

import pytest

from emulator.silicon.spec import load_spec
from emulator.timing.budget import shape_of
from emulator.timing.energy import die_area
from emulator.timing.floor_plan import floor_plan
from emulator.timing.models import HC1_MIX, MODELS, blank_stages
from emulator.timing.schedule import token_cycles
from weights.mix import Mix

HC1 = load_spec()
CHANGES = ({}, {"fabric.owned": 0}, {"fabric.cell_bits": 2, "fabric.lanes": 8})


@pytest.mark.parametrize("changes", CHANGES)
@pytest.mark.parametrize("name", ["llama-3.1-8b", "llama-3.2-1b"])  # own table, shared table
def test_the_places_add_up_to_the_die_part_by_part(name, changes):
    spec = HC1
    for key, value in changes.items():
        spec = spec.with_value(key, value)
    stages = blank_stages(MODELS[name], Mix.parse(HC1_MIX))
    summed: Counter[str] = Counter()
    for place in floor_plan(stages, spec):
        summed.update(place.area_mm2)
    assert summed == pytest.approx(die_area(spec, shape_of(stages)).mid)


def test_every_block_that_takes_cycles_lights_a_place():
    stages = blank_stages(MODELS["llama-3.1-8b"], Mix.parse(HC1_MIX))
    plan = floor_plan(stages, HC1)
    lit = {block for place in plan for block in place.blocks}
    cycles = token_cycles(stages, HC1, 1, True)
    assert {name for name, own in cycles.items() if own} <= lit
    for layer in range(32):
        own = [place.name for place in plan if place.layer == layer]
        assert own == ["fabric_qkv", "kv_sram", "fabric_o", "fabric_gate_up", "fabric_down"]


def test_a_wider_matrix_gets_more_of_the_die():
    """Gate and up have 28,672 rows of 4,096 where q, k and v have 6,144."""
    stages = blank_stages(MODELS["llama-3.1-8b"], Mix.parse(HC1_MIX))
    areas = {place.name: place.total_mm2 for place in floor_plan(stages, HC1) if place.layer == 0}
    assert areas["fabric_gate_up"] == pytest.approx(areas["fabric_qkv"] * 28_672 / 6_144, rel=0.01)

"""The architecture pays: lanes, rows, memories and clock in transistors, millimetres and watts."""

from __future__ import annotations

import json

import pytest

from emulator.cli import main
from emulator.silicon.spec import ChipSpec, load_spec
from emulator.timing.budget import (
    adder_rows,
    bit_lines,
    cells,
    overdrive,
    shape_of,
    sram_banks,
    sram_gigabits,
)
from emulator.timing.die import Die, die_of
from emulator.timing.energy import values_at
from emulator.timing.models import HC1_MIX, MODELS, blank_stages, kv_sram_bits
from weights.mix import Mix

HC1 = load_spec()
LLAMA = MODELS["llama-3.1-8b"]
STAGES = blank_stages(LLAMA, Mix.parse(HC1_MIX))
SHAPE = shape_of(STAGES)
NETLIST = {4: 13_200, 8: 15_500, 16: 19_700, 32: 30_300, 64: 50_800}  # transistors a row, by lanes


def die(**changed: float) -> Die:
    """HC1 with "section_key" constants changed, at 1,536 positions."""
    spec: ChipSpec = HC1
    for key, value in changed.items():
        spec = spec.with_value(key.replace("__", "."), value)
    return die_of(STAGES, spec, 1536)


def middle(one: Die) -> tuple[float, float, float, float]:
    """tok/s, mm2, billions, W."""
    rest = (bracket.totals[1] for bracket in (one.area, one.transistors, one.power))
    return (one.tokens_per_second, *rest)  # type: ignore[return-value]


def test_the_shape_by_hand():
    """43,008 rows a layer and 128,256 of the head; 6.98 G weights of 3 bits, 1.05 G of 6."""
    assert SHAPE.rows == 32 * 43_008 + 128_256
    assert SHAPE.widest_rows == 128_256
    assert SHAPE.weights == {3: 32 * 218_103_808, 6: 2 * 128_256 * 4096}
    at = values_at(HC1)
    assert sram_gigabits(at, SHAPE) * 1e9 == kv_sram_bits(LLAMA, HC1)
    assert cells(at, SHAPE) == SHAPE.weights[3] + 2 * SHAPE.weights[6] + SHAPE.other_bits / 4
    assert sram_banks(at) == 8192
    assert adder_rows(at, SHAPE) == SHAPE.rows
    assert adder_rows(values_at(HC1.with_value("fabric.owned", 0)), SHAPE) == 128_256


def test_a_tied_table_is_stored_once():
    tied = shape_of(blank_stages(MODELS["llama-3.2-1b"], Mix.parse("3")))
    assert sum(tied.weights.values()) == MODELS["llama-3.2-1b"].parameters - 33 * 2048


@pytest.mark.parametrize(("lanes", "counted"), NETLIST.items())
def test_a_row_meets_its_netlist(lanes, counted):
    """The line through the counted rows misses none by more than 4 %."""
    t = HC1.transistors
    assert t.row.value + t.row_lane.value * lanes == pytest.approx(counted, rel=0.04)


@pytest.mark.parametrize(("bits", "lines"), [(1, 2), (2, 3), (3, 5), (4, 6), (8, 24)])
def test_bit_lines(bits, lines):
    """n lines make n (n - 1) / 2 + 1 states: 2, 4, 11, 16, 277."""
    assert bit_lines(bits) == lines


def test_four_times_the_lanes():
    """Rate, area, transistors and watts all rise, and the chip is called too large."""
    one, four = die(), die(fabric__lanes=64)
    assert all(b > 1.5 * a for a, b in zip(middle(one), middle(four), strict=True))
    assert not any("too large" in text for text in one.too_much)
    assert any("transistors" in text and "too large" in text for text in four.too_much)
    assert [text.split(",")[0] for text in four.too_much] == ["die", "transistors", "power"]


PAYS = {  # a constant, its two values, and whether (mm2, billions, W) rise
    "fabric.owned": (0, 1, (True, True, True)),
    "fabric.cell_bits": (8, 3, (False, True, False)),  # more cells, each far narrower
    "kv_sram.bandwidth": (8192, 262144, (True, False, True)),
    "kv_sram.value_bits": (4, 16, (True, True, True)),
    "kv_sram.positions": (64, 6144, (True, True, True)),
    "attention.macs": (32768, 1048576, (True, True, True)),
    "vector.lanes": (256, 16384, (True, True, True)),
    "clock.frequency": (5e8, 1.5e9, (False, False, True)),
    "clock.voltage_slope": (0.1, 0.5, (False, False, False)),  # at 1 GHz it changes nothing
}


@pytest.mark.parametrize(("key", "case"), PAYS.items(), ids=PAYS)
def test_every_part_pays(key, case):
    low, high, rises = case
    spec = HC1.with_value("clock.frequency", 1e9)
    ends = [middle(die_of(STAGES, spec.with_value(key, end), 64)) for end in (low, high)]
    assert tuple(b > a for a, b in zip(ends[0][1:], ends[1][1:], strict=True)) == rises


def test_voltage_goes_with_the_clock():
    """0.75 V at 1 GHz, 0.875 V at 1.5 GHz: 1.36 times the energy a token, less the leakage's."""
    fast = HC1.with_value("clock.frequency", 1.5e9)
    assert overdrive(values_at(fast)) == pytest.approx(0.875 / 0.75)
    one = HC1.with_value("clock.frequency", 1e9)
    slow, quick = (die_of(STAGES, spec, 1536) for spec in (one, fast))
    joule = [d.power.mid["multiply-add"] / d.tokens_per_second for d in (slow, quick)]
    assert joule[1] / joule[0] == pytest.approx((0.875 / 0.75) ** 2)


def test_command(capsys):
    assert main(["area", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert found["published"] == {"die": 815, "transistors": 53, "power": 200}
    by_name = {(row["sharing"], row["lanes"]): row for row in found["readings"]}
    assert len(by_name) == 8
    assert by_name["owned", 16]["transistors"]["mid"] == found["transistors"]["mid"]
    assert by_name["shared", 16]["die_area"]["mid"] < found["die_area"]["mid"]
    assert main(["area"]) == 0
    out = capsys.readouterr().out
    assert "too large" in out
    assert "Estimates: the chip's constants are" in out


def test_cycles_and_sensitivity_say_it(capsys):
    assert main(["cycles", "--context", "9", "--set", "fabric.lanes=64"]) == 0
    assert "over the published: transistors" in capsys.readouterr().out
    assert main(["sensitivity", "--json"]) == 0
    swings = {s["key"]: s for s in json.loads(capsys.readouterr().out)["swings"]}
    assert len(swings["fabric.lanes"]["too_much"]["high"]) == 3

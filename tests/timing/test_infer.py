"""Many chips at once: equal to one chip's schedule, weighed rightly, and as recorded."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest

from emulator.cli import main
from emulator.commands.infer import what_is_known
from emulator.errors import UsageError
from emulator.silicon.spec import ChipSpec, load_spec, whole
from emulator.timing.budget import Work, shape_of
from emulator.timing.closed_form import ClosedForm
from emulator.timing.energy import values_at
from emulator.timing.infer import Posterior, _over_all_costs, infer, load_facts, weigh
from emulator.timing.models import HC1_MIX, MODELS, blank_stages
from emulator.timing.population import Draws, populate
from emulator.timing.posterior import recorded
from emulator.timing.schedule import stage_cycles, token_work
from weights.mix import Mix

HC1 = load_spec()
CONFIG, MIX, FACTS = what_is_known(HC1, None)
STAGES = blank_stages(CONFIG, MIX)
SHAPE = shape_of(STAGES)
FORM = ClosedForm.of(CONFIG, MIX)
TIMES = ("clock", "fabric", "vector", "embedding", "kv_sram", "attention", "top_k", "sequencer")


def random_chips(count: int) -> list[ChipSpec]:
    """Every constant of the structure anywhere in its range."""
    rng, chips = random.Random(20), []
    for _ in range(count):
        spec = HC1
        for key, constant in HC1.constants():
            if key.split(".")[0] in TIMES:
                low, high = constant.range
                value = low + rng.random() * (high - low)
                spec = spec.with_value(key, round(value) if whole(constant.unit) else value)
        chips.append(spec)
    return chips


@pytest.mark.parametrize("mix", [HC1_MIX, "4,v=6,down=3,head=3"])
def test_the_closed_form_is_the_schedule(mix):
    """To the cycle, at four contexts on 100 chips: the token, an inner layer, the head."""
    chips = random_chips(100)
    stages = blank_stages(CONFIG, Mix.parse(mix))
    form = ClosedForm.of(CONFIG, Mix.parse(mix))
    values = {
        key: np.array([float(chip.constant(key).value) for chip in chips])
        for key, _ in HC1.constants()
        if key.split(".")[0] in TIMES
    }
    for context in (1, 25, 1536, 6144):
        found = form.cycles(values.__getitem__, context)
        parts = [stage_cycles(stages, chip, context) for chip in chips]
        assert found.token.tolist() == [sum(part.values()) for part in parts]
        assert found.layer.tolist() == [part["layer 9"] for part in parts]
        assert found.head.tolist() == [part["head"] for part in parts]


def test_the_closed_form_does_the_same_work():
    """But for rotary tables and rows' scales, 0.2 % of the bits."""
    at = values_at(HC1)
    found = FORM.work(at, FORM.cycles(at, 1000), 1000)
    wanted = Work.of(token_work(STAGES, HC1, 1000))
    for name in ("macs", "sram_bits", "row_cycles", "wire_bits"):
        assert getattr(found, name) == getattr(wanted, name)
    assert found.rom_bits == pytest.approx(wanted.rom_bits, rel=2e-3)


def test_models_that_the_closed_form_refuses():
    with pytest.raises(UsageError, match="layers are all alike"):
        ClosedForm.of(CONFIG, Mix.parse("3,0.v=6"))
    with pytest.raises(UsageError, match="untied"):
        ClosedForm.of(MODELS["llama-3.2-1b"], MIX)


def test_draws_stay_in_their_ranges_and_know_what_is_known():
    at = Draws(HC1, 5000, 3)
    for key, constant in HC1.constants():
        values = at(key)
        assert values.min() >= constant.range[0]
        assert values.max() <= constant.range[1]
        if constant.grade in ("official", "observed"):
            assert np.ptp(values) == 0
        elif whole(constant.unit):
            assert set(values) <= set(np.round(values))
    again = Draws(HC1, 5000, 3)
    assert (again("fabric.lanes") == at("fabric.lanes")).all()  # whatever was drawn before
    assert (Draws(HC1, 5000, 4)("fabric.lanes") != at("fabric.lanes")).any()


def test_a_clock_solved_for_weighs_as_one_drawn():
    """Importance weights: both ways to meet the rates give the same lanes and clock."""
    rates = (FACTS.rate, FACTS.sibling)
    spread, prompts = load_facts()["spread.rate"].value, FACTS.prompts
    only = ("die", "transistors", "power", "decode steps", "first tokens")
    solved = weigh(
        populate(HC1, FORM, SHAPE, 60_000, 1, rates, spread, prompts), FACTS, load_facts(), only
    )
    drawn = populate(HC1, FORM, SHAPE, 60_000, 1, (), spread, prompts)
    log = sum(-0.5 * (np.log(drawn.rate / rate) / spread) ** 2 for rate in rates)
    weights = np.exp(log)
    other = Posterior(drawn, weights / weights.sum(), np.zeros(60_000))
    for key in ("fabric.lanes", "clock.frequency"):
        a, b = (p.quantiles(p.chips.at(key)) for p in (solved, other))
        assert a == pytest.approx(b, rel=0.08)
    a, b = (p.quantiles(p.chips.rate) for p in (solved, other))
    assert a == pytest.approx(b, rel=0.01)


def test_costs_are_integrated_away():
    """The closed integral equals the sum over costs, but for the law's own constant."""
    known = load_facts()
    spread, most = known["spread.decode_step"].value, known["most.decode_step"].value
    left = np.array([[5.0, 0.5, 19.0, -2.0], [6.0, 1.5, 21.0, 0.5]])
    costs = np.linspace(0, most, 200_001)[:, None, None]
    likely = np.exp(-0.5 * ((left - costs) / spread) ** 2).prod(axis=1).mean(axis=0)
    found = np.exp(_over_all_costs(left, known, "decode_step"))
    assert found * math.sqrt(2 * math.pi) == pytest.approx(likely, rel=0.01)


def test_facts_narrow_and_are_covered():
    """The four published figures can be had together; without a fact the rest are wider."""
    found = infer(HC1, CONFIG, MIX, FACTS, 40_000, 5)
    assert found.weights.sum() == pytest.approx(1)
    assert found.effective > 100
    for name in ("rate", "die", "transistors", "power"):
        low, _, high = found.quantiles(getattr(found.chips, name))
        assert low < getattr(FACTS, name) < high
    without = infer(HC1, CONFIG, MIX, FACTS, 40_000, 5, ("die",))
    spans = [p.quantiles(p.chips.die)[2] - p.quantiles(p.chips.die)[0] for p in (found, without)]
    assert spans[1] > 1.5 * spans[0]


@pytest.mark.slow
def test_the_recorded_odds_are_those_of_the_command(capsys):
    """`infer --record` was run with these constants: a changed one asks for another run."""
    kept = recorded()
    assert (
        main(["infer", "--json", "--chips", str(kept["chips"]), "--seed", str(kept["seed"])]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    for name in ("shows", "rates"):
        for key, quantiles in kept[name].items():
            assert found[name][key] == pytest.approx(quantiles, rel=1e-3), key
    assert set(found["left_out"]) == set(kept["left_out"])


def test_the_table_and_what_is_refused(capsys):
    assert main(["infer", "--chips", "2000"]) == 0
    out = capsys.readouterr().out
    assert all(head in out for head in ("what survives", "these chips show", "fact left out"))
    for bad in (["--chips", "10"], ["--seed", "-1"], ["--record", "--set", "fabric.lanes=8"]):
        assert main(["infer", *bad]) == 2
    assert main(["cycles"]) == 0
    assert "p5 to p95 (infer)" in capsys.readouterr().out
    assert main(["cycles", "--set", "fabric.lanes=8"]) == 0
    assert "p5 to p95" not in capsys.readouterr().out

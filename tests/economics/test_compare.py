"""Break-evens against a search on a grid, GPU rates against their rows, paybacks by hand."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.economics.compare import (
    NEVER,
    Offer,
    appliance,
    gpu,
    list_price,
    peers,
    wins_from,
    wins_up_to,
)
from emulator.economics.constants import load_economics
from emulator.economics.demand import Demand, fit
from emulator.economics.draws import at_values, drawn
from emulator.economics.payback import payback
from emulator.economics.tornado import tornado
from emulator.economics.workloads import judge, named_workloads, percentiles, session_times
from emulator.silicon.spec import load_spec
from emulator.timing.models import HC1_MIX, blank_stages, known_model
from emulator.traffic.service_times import service_times
from emulator.traffic.source import load_of
from weights.mix import Mix


@pytest.fixture(scope="module")
def economics():
    return load_economics()


@pytest.fixture(scope="module")
def times():
    stages = blank_stages(known_model("llama-3.1-8b"), Mix.parse(HC1_MIX))
    return service_times(stages, load_spec(), ("serial", "pipelined"))


@pytest.mark.parametrize("name", ["H100", "H200"])
def test_the_fit_meets_the_published_rows(economics, name):
    """Reading, making and KV reading, none of them negative, within 3 % of each row."""
    a, b, c = fit(economics.throughput[name])
    assert min(a, b, c) >= 0
    for into, out, rate in economics.throughput[name]:
        seconds = a * into + b * out + c * (into + out / 2) * out
        assert out / seconds == pytest.approx(rate, rel=0.03)


def test_a_fit_leaves_out_what_would_be_negative():
    rows = [[100, 100, 1000.0], [1000, 100, 900.0], [100, 1000, 2000.0]]
    assert min(fit(rows)) >= 0


@pytest.mark.parametrize("load", ["azure-conv", "1000/1000", "2048/128"])
@pytest.mark.parametrize("hypothesis", ["serial", "pipelined"])
def test_the_break_even_is_where_a_search_finds_it(economics, times, load, hypothesis):
    """First load on a grid from which ours is not dearer, at the values."""
    known = at_values(economics)
    demand = Demand.of(load_of(load), 6144)
    ours = appliance(demand, times[hypothesis], known, 10)
    grid = np.geomspace(0.01, 2000, 4000)
    for other in peers(demand, economics, known):
        cheaper = np.array([float(ours.hourly(r)[0] - other.hourly(r)[0]) <= 0 for r in grid])
        found = float(wins_from(ours, other)[0])
        if found == 0:
            assert cheaper[0], other.name
        elif np.isinf(found):
            assert not cheaper[grid <= ours.unit_rate[0]].any(), other.name
        else:
            assert grid[int(np.argmax(cheaper))] == pytest.approx(found, rel=0.005), other.name


def offer(hourly: float, rate: float, price: float = 0.0) -> Offer:
    zero = np.zeros(1)
    return Offer("x", zero + hourly, zero, zero + rate, zero + price, zero + 0.5)


def test_ours_may_win_only_up_to_a_load():
    """Cheap while one machine is enough, dearer by the request."""
    ours, other = offer(1.0, 10.0), offer(2.0, 40.0)
    assert wins_from(ours, other) == 0
    assert wins_up_to(ours, other) == 20
    assert ours.hourly(20.0) == other.hourly(20.0)


def test_ours_may_never_win():
    assert wins_from(offer(3.0, 10.0), offer(2.0, 40.0)) == NEVER
    assert wins_from(offer(3.0, 10.0), offer(0.0, 1.0, price=1e-9)) == NEVER


def test_in_and_out_add_up(economics, times):
    demand = Demand.of(load_of("1000/1000"), 6144)
    known = at_values(economics)
    for one in [appliance(demand, times["serial"], known, 10), *peers(demand, economics, known)]:
        into, out = one.per_million(7.0, demand)
        whole = one.per_million_out(7.0, demand)
        assert into + out == pytest.approx(whole, rel=1e-9), one.name


def test_list_prices_are_what_they_say(economics):
    demand = Demand.of(load_of("1000/250"), 6144)
    into, out = list_price(demand, economics, "DeepInfra").per_million(3.0, demand)
    assert (float(into[0]), float(out[0])) == pytest.approx((0.02, 0.04))


def test_utilisation_is_counted_alike(economics, times):
    """Twice as busy, half the cost of a full fleet, for GPUs and cards alike but for power."""
    demand = Demand.of(load_of("1000/250"), 6144)
    for make in (lambda k: gpu(demand, economics, k, "H100"),
                 lambda k: appliance(demand, times["serial"], k, 10)):  # fmt: skip
        half, full = (
            make({**at_values(economics), "server.most_busy": np.array([busy])})
            for busy in (0.45, 0.9)
        )
        assert full.unit_rate == pytest.approx(2 * half.unit_rate)
        assert full.cheapest_request == pytest.approx(half.cheapest_request / 2, rel=0.03)


def test_months_by_hand(economics, times):
    known = at_values(economics)
    demand = Demand.of(load_of("600/60"), 6144)
    ours = appliance(demand, times["serial"], known, 10)
    peer = gpu(demand, economics, known, "H200")
    paid = payback(ours, peer, known, 20_000, 10)
    months = float(paid.months(True)[0])
    assert float(((months - 2) * paid.saved_a_month)[0]) == pytest.approx(
        float(paid.spent_first[0])
    )
    assert paid.spent_first - paid.spent_next == pytest.approx(38e6)
    assert (paid.months(True, 500.0) > paid.months(True)).all()
    assert np.isinf(paid.months(True, 1e9)).all()
    # what staleness may cost is what makes the payback equal to the life
    most = float(paid.stale_cost(False, np.array([12.0]))[0])
    assert float(paid.months(False, most)[0]) == pytest.approx(12)


def test_more_cards_need_fewer_months(economics, times):
    known = at_values(economics)
    demand = Demand.of(load_of("600/60"), 6144)
    ours = appliance(demand, times["serial"], known, 10)
    peer = gpu(demand, economics, known, "H200")
    months = [float(payback(ours, peer, known, v, 10).months(True)[0]) for v in (1e3, 1e4, 1e5)]
    assert months == sorted(months, reverse=True)


def test_the_five_workloads(economics, times):
    known = drawn(economics, 500, 0)
    named = named_workloads(economics)
    assert [w.name for w in named] == ["voice", "copilot", "edge", "high-volume", "agent"]
    for workload in named:
        for table in times.values():
            verdict = judge(workload, economics, table, known, 10_000)
            assert 0 <= verdict.cheaper <= 1
            assert verdict.p99_ms["e2el"] >= verdict.p99_ms["ttft"] > 0
            months = verdict.paid.months(True)
            assert (months >= known["nre.wait"]).all()
    # one user asks too little to ever pay for a card
    edge = judge(named[2], economics, times["serial"], known, 10_000)
    assert edge.cheaper == 0
    assert np.isinf(edge.paid.months(True)).all()


def test_a_sessions_time_by_hand(economics, times):
    agent = named_workloads(economics)[4]
    short, long = session_times(agent, economics, times)
    one = (1500 * 58.4e-6) + 79 * 58.9e-6 + 0.1
    assert short.cards["serial"] == pytest.approx(20 * one, rel=0.01)
    assert long.gpu_loaded == pytest.approx(200 * (0.095 + 79 * 0.0244 + 0.1))
    assert long.calls == 200


def test_the_tornado_holds_both_ends(economics, times):
    demand = Demand.of(load_of("1000/1000"), 6144)

    def cost(known) -> float:
        return float(appliance(demand, times["serial"], known, 10).per_million_out(5.0, demand)[0])

    swings = tornado(economics, cost)
    assert [s.size for s in swings] == sorted((s.size for s in swings), reverse=True)
    by_key = {s.key: s for s in swings}
    assert by_key["nre.volume"].at_low > by_key["nre.volume"].at_high
    assert "rent.H100" not in by_key
    margin = at_values(economics.let("card.margin", 10))
    assert by_key["card.margin"].at_high == cost(margin)


def test_percentiles_may_be_never():
    values = np.array([1.0, 2.0, np.inf, np.inf])
    assert percentiles(values, (0, 50, 100)) == [1.0, np.inf, np.inf]

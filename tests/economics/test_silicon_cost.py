"""Dies, yield and card against HNLPU's published cost table and against arithmetic by hand."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.economics.constants import load_economics
from emulator.economics.draws import at_values
from emulator.economics.ownership import card_cost, owned_gpu_hourly, server_hourly
from emulator.economics.silicon_cost import die_cost, dies


def one(value: float) -> np.ndarray:
    return np.array([value])


def test_hnlpus_cost_table():
    """Appendix B: 827 mm2 at 0.11 /cm2, 43 %, 27 of 62 dies; 16,988 $ a wafer, 629 $ a die."""
    of = dies(one(300.0), one(827.0), one(0.11))
    assert of.gross == 62
    assert of.yield_share == pytest.approx(0.43, abs=0.005)
    assert of.good == 27
    assert die_cost(one(16_988.0), of) == pytest.approx(629, abs=0.5)


@pytest.mark.parametrize(
    ("defects", "good", "cost"),
    [(0.07, 35, 266), (0.09, 30, 308), (0.11, 26, 355), (0.15, 20, 464)],
)
def test_hc1s_die(defects, good, cost):
    """815 mm2, 60 dies inside a rim of 3 mm; the sketch divided by unrounded dies."""
    of = dies(one(294.0), one(815.0), one(defects))
    assert of.gross == 60
    assert of.good == good
    assert die_cost(one(9346.0), of) == pytest.approx(cost, rel=0.015)


def test_more_defects_never_give_more_dies():
    of = dies(np.full(50, 294.0), np.full(50, 815.0), np.linspace(0.01, 3, 50))
    assert (np.diff(of.yield_share) < 0).all()
    assert (np.diff(of.good) <= 0).all()
    assert of.good.min() >= 1


def test_a_cards_parts_by_hand():
    known = at_values(load_economics())
    card = card_cost(known)
    built = 9346 / 26 + 111 + 300
    assert card.price == pytest.approx(3 * built)
    assert card.base_nre == pytest.approx(38e6 / (10_000 * 48 / 12))
    assert card.model_nre == pytest.approx(1.2e6 / 10_000)


def test_a_servers_hour_by_hand():
    economics = load_economics()
    known = at_values(economics)
    hour = server_hourly(known, 10)
    card = card_cost(known)
    assert hour.cards == pytest.approx(10 * card.price / 8760)  # a model lives a year
    assert hour.host == pytest.approx(10_000 / (3 * 8760))
    kwh = 0.095 * 1.4 / 1000
    assert hour.idle_power == pytest.approx((10 * 45 + 500) * kwh)
    assert hour.at(1.0) - hour.at(0.0) == pytest.approx(10 * 155 * kwh)


def test_a_card_that_outlives_its_host_is_spread_over_the_hosts_life():
    economics = load_economics().let("nre.model_life", 36).let("server.life", 2)
    known = at_values(economics)
    hour = server_hourly(known, 10)
    assert hour.cards == pytest.approx(10 * card_cost(known).price / (2 * 8760))


def test_an_owned_gpu_by_hand():
    hour = owned_gpu_hourly(at_values(load_economics()))
    expected = 45_625 / (3 * 8760) + 45_625 * 0.05 / 8760 + 700 * 0.095 * 1.4 / 1000
    assert hour == pytest.approx(expected)


def test_the_sketchs_hour():
    """Ten cards at full load over three years without NRE: about 1.1 $/h with cheap cards."""
    economics = load_economics()
    for key, value in {"nre.model_life": 36, "card.margin": 1}.items():
        economics = economics.let(key, value)
    hour = server_hourly(at_values(economics), 10)
    assert hour.at(1.0) - hour.nre == pytest.approx(1.1, rel=0.1)

"""How many months a model must live before its cards have paid for themselves.

A fleet of `volume` cards is bought for one model. From the weights' release it waits for its masks;
from then on it saves what a peer would ask for the same work, less its own power and upkeep, and
less what an ageing model costs its user. It has paid when the savings reach what was spent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emulator.economics.compare import Offer
from emulator.economics.draws import Known
from emulator.economics.ownership import HOURS_A_MONTH, card_cost, server_hourly
from emulator.traffic.randomness import Reals

NEVER = np.inf


@dataclass(frozen=True, slots=True)
class Payback:
    """Arrays of the draws; $ are of the whole fleet."""

    spent_first: Reals  # on cards, the base design, the model's masks and work
    spent_next: Reals  # the same for a model on a base die that has been paid
    saved_a_month: Reals  # before what a stale model costs
    servers: float
    wait_months: Reals

    def months(self, first: bool, stale_cost: float = 0.0) -> Reals:
        """From the weights' release until it has paid; NEVER where nothing is saved.

        `stale_cost` is $ a month and server that an outdated model loses its user.
        """
        saved = self.saved_a_month - stale_cost * self.servers
        spent = self.spent_first if first else self.spent_next
        needed = self.wait_months + spent / np.where(saved > 0, saved, 1)
        return np.where(saved > 0, needed, NEVER)

    def stale_cost(self, first: bool, life_months: Reals) -> Reals:
        """$ a month and server that a stale model may cost at most, if it lives so long.

        Negative where it would not pay even if staleness cost nothing.
        """
        spent = self.spent_first if first else self.spent_next
        useful = np.maximum(life_months - self.wait_months, 1e-9)
        return (self.saved_a_month - spent / useful) / self.servers


def payback(
    ours: Offer,
    peer: Offer,
    known: Known,
    volume: float,
    cards: int,
    host: str = "server",
    rate: float | None = None,
    most_busy: float | None = None,
) -> Payback:
    """A fleet in servers of `cards`, each as busy as it may be, or at `rate` requests a second."""
    servers = volume / cards
    card = card_cost(known)
    hourly = server_hourly(known, cards, host)
    served = ours.unit_rate if rate is None else np.minimum(rate, ours.unit_rate)
    full = known["server.most_busy"] if most_busy is None else most_busy
    busy = full * served / ours.unit_rate
    running = hourly.host + hourly.maintenance + hourly.idle_power + hourly.busy_power * busy
    fleet = peer.cheapest_request * served * 3600  # buys its peer's machines by fractions
    theirs = fleet if rate is None else peer.hourly(served)
    model = known["nre.model_masks"] + known["nre.model_work"]
    return Payback(
        volume * card.price + known["nre.base"] + model,
        volume * card.price + model,
        servers * HOURS_A_MONTH * (theirs - running),
        servers,
        known["nre.wait"],
    )

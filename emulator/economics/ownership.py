"""What an hour of a server of hardwired cards costs, and an hour of a GPU.

A card serves one model, so its price is spread over the months that the model lives; the host
outlives it. The base design is spread over all models that are put on it, and a model's own masks
over its cards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emulator.economics.draws import Known
from emulator.economics.silicon_cost import die_cost, dies
from emulator.traffic.randomness import Reals

HOURS_A_YEAR = 8760
HOURS_A_MONTH = HOURS_A_YEAR / 12
W_IN_KW = 1000


@dataclass(frozen=True, slots=True)
class CardCost:
    """$ of one card, arrays of the draws."""

    die: Reals
    package: Reals
    board: Reals
    margin: Reals
    base_nre: Reals  # its share of the base design
    model_nre: Reals  # its share of the model's masks and work

    @property
    def price(self) -> Reals:
        """Without any NRE."""
        return self.die + self.package + self.board + self.margin

    @property
    def total(self) -> Reals:
        return self.price + self.base_nre + self.model_nre


def card_cost(known: Known) -> CardCost:
    """From wafer to card, and its share of what was spent once."""
    usable = known["wafer.diameter"] - 2 * known["wafer.edge"]
    of = dies(usable, known["wafer.die_area"], known["wafer.defects"])
    die = die_cost(known["wafer.price"], of)
    package, board = known["card.package"], known["card.board"]
    built = die + package + board
    models = np.maximum(known["nre.base_life"] / known["nre.model_life"], 1)
    volume = known["nre.volume"]
    return CardCost(
        die, package, board, built * (known["card.margin"] - 1),
        known["nre.base"] / (volume * models),
        (known["nre.model_masks"] + known["nre.model_work"]) / volume,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hourly:
    """$ an hour of one server, arrays of the draws."""

    cards: Reals
    nre: Reals
    host: Reals
    maintenance: Reals
    idle_power: Reals
    busy_power: Reals  # on top, when all cards are busy

    def at(self, busy: Reals | float) -> Reals:
        """With the cards busy for a share of the time."""
        fixed = self.cards + self.nre + self.host + self.maintenance + self.idle_power
        return fixed + self.busy_power * busy


def server_hourly(known: Known, cards: int, host: str = "server") -> Hourly:
    """Of `cards` cards in one host; "edge" is a small one."""
    card = card_cost(known)
    card_hours = HOURS_A_MONTH * np.minimum(known["nre.model_life"], 12 * known["server.life"])
    host_price = known[f"{host}.host"]
    kwh = known["power.price"] * known["power.pue"] / W_IN_KW  # $ of a W for an hour
    idle_w = cards * known["card.power_idle"] + known[f"{host}.host_power"]
    busy_w = cards * np.maximum(known["card.power_busy"] - known["card.power_idle"], 0)
    hardware = cards * card.price + host_price
    return Hourly(
        cards * card.price / card_hours,
        cards * (card.base_nre + card.model_nre) / card_hours,
        host_price / (HOURS_A_YEAR * known["server.life"]),
        hardware * known["server.maintenance"] / HOURS_A_YEAR,
        idle_w * kwh,
        busy_w * kwh,
    )


def owned_gpu_hourly(known: Known) -> Reals:
    """$ an hour of an H100 that one owns, at full power."""
    price = known["owned.H100"]
    spread = price / (HOURS_A_YEAR * known["server.life"])
    upkeep = price * known["server.maintenance"] / HOURS_A_YEAR
    kwh = known["power.price"] * known["power.pue"] / W_IN_KW
    return spread + upkeep + known["owned.H100_power"] * kwh

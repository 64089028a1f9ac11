"""The same load on an appliance, on GPUs and at list prices: $ an hour, $ a million tokens.

Everybody's machines are loaded alike: to `server.most_busy` of what they can do, and at least one
is paid for, however little there is to do. Above one machine, fractions of one can be had, as in a
fleet. A list price is paid by the token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emulator.economics.constants import Economics
from emulator.economics.demand import GPUS, Demand, Seconds, card_seconds, gpu_seconds
from emulator.economics.draws import Known
from emulator.economics.ownership import Hourly, owned_gpu_hourly, server_hourly
from emulator.traffic.randomness import Reals
from emulator.traffic.service_times import ServiceTimes

PER_MILLION = 1e6
SECONDS_AN_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to serve a load; arrays of the draws."""

    name: str
    unit_hourly: Reals  # $ of one machine, busy as far as it may be; 0 for a list price
    busy_hourly: Reals  # what of that falls away where it has nothing to do
    unit_rate: Reals  # requests a second of one machine, so loaded
    request_price: Reals  # $ of a mean request beside that; 0 for machines
    prompt_share: Reals  # of the cost that reading prompts causes

    def hourly(self, rate: Reals | float) -> Reals:
        """$ an hour at so many requests a second."""
        if not self.unit_hourly.any():
            return self.request_price * rate * SECONDS_AN_HOUR
        machines = rate / self.unit_rate
        idle = np.maximum(1 - machines, 0)
        return self.unit_hourly * np.maximum(machines, 1) - self.busy_hourly * idle

    def per_million(self, rate: float, demand: Demand) -> tuple[Reals, Reals]:
        """$ a million tokens in, and out."""
        requests = rate * SECONDS_AN_HOUR
        cost = self.hourly(rate)
        into = cost * self.prompt_share / (requests * demand.tokens_in)
        out = cost * (1 - self.prompt_share) / (requests * demand.tokens_out)
        return PER_MILLION * into, PER_MILLION * out

    def per_million_out(self, rate: float, demand: Demand) -> Reals:
        """$ a million answer tokens, their prompts included."""
        return PER_MILLION * self.hourly(rate) / (rate * SECONDS_AN_HOUR * demand.tokens_out)

    @property
    def cheapest_request(self) -> Reals:
        """$ where every machine is busy as far as it may be."""
        return self.request_price + self.unit_hourly / self.unit_rate / SECONDS_AN_HOUR


def appliance(
    demand: Demand, times: ServiceTimes, known: Known, cards: int, host: str = "server",
    busy: float | None = None,
) -> Offer:  # fmt: skip
    """A server of so many cards."""
    most_busy = known["server.most_busy"] if busy is None else np.array(busy)
    work = card_seconds(demand, times, known)
    hourly: Hourly = server_hourly(known, cards, host)
    name = f"{cards} cards, {times.hypothesis}"
    nothing = np.zeros_like(work.total)
    return Offer(name, hourly.at(most_busy), hourly.busy_power * most_busy,
                 cards * most_busy / work.total, nothing, work.prompt / work.total)  # fmt: skip


def gpu(
    demand: Demand, economics: Economics, known: Known, name: str, busy: float | None = None
) -> Offer:
    """A rented GPU, or "H100 owned"."""
    most_busy = known["server.most_busy"] if busy is None else np.array(busy)
    kind = name.partition(" ")[0]
    work: Seconds = gpu_seconds(demand, economics.throughput, kind, known)
    hourly = owned_gpu_hourly(known) if name.endswith("owned") else known[f"rent.{kind}"]
    nothing = np.zeros_like(work.total)
    share = work.prompt / work.total
    return Offer(name, hourly + nothing, nothing, most_busy / work.total, nothing, share)


def list_price(demand: Demand, economics: Economics, name: str) -> Offer:
    """Raises StopIteration for a name that the file has not."""
    price = next(p for p in economics.prices if p.name == name)
    into, out = demand.tokens_in * price.into, demand.tokens_out * price.out
    nothing, one = np.zeros(1), np.ones(1)
    cost = (into + out) / PER_MILLION
    return Offer(name, nothing, nothing, one, one * cost, one * into / (into + out))


def peers(demand: Demand, economics: Economics, known: Known) -> list[Offer]:
    """All GPUs, rented, one owned, and all list prices."""
    machines = [*GPUS, "H100 owned"]
    offers = [gpu(demand, economics, known, name) for name in machines]
    return offers + [list_price(demand, economics, price.name) for price in economics.prices]


NEVER = np.inf


def wins_from(ours: Offer, other: Offer) -> Reals:
    """Requests a second from which ours is not dearer; 0 for always, NEVER for never.

    Up to one machine's rate ours costs a floor and what busy cards draw on top; the other is such
    a machine too, or grows from nothing.
    """
    floor = ours.unit_hourly - ours.busy_hourly
    slope = ours.busy_hourly / ours.unit_rate
    if not other.unit_hourly.any():
        even = _crossing(floor, other.request_price * SECONDS_AN_HOUR - slope)
    else:
        always = floor + slope * other.unit_rate <= other.unit_hourly
        later = _crossing(floor, other.unit_hourly / other.unit_rate - slope)
        even = np.where(always, 0.0, later)
    return np.where(even <= ours.unit_rate, even, NEVER)


def _crossing(floor: Reals, slope: Reals) -> Reals:
    """Where a line from 0 that rises by `slope` reaches `floor`."""
    return np.where(slope > 0, floor / np.where(slope > 0, slope, 1), NEVER)


def wins_up_to(ours: Offer, other: Offer) -> Reals:
    """Requests a second up to which ours is not dearer, once it is; NEVER for no end."""
    dearer = ours.cheapest_request > other.cheapest_request
    if not other.unit_hourly.any():
        return np.where(dearer, 0.0, NEVER)
    # Where its fixed cost is below the other's, ours grows earlier, until it meets that.
    until = ours.unit_rate * other.unit_hourly / ours.unit_hourly
    return np.where(dearer, np.where(ours.unit_hourly <= other.unit_hourly, until, 0.0), NEVER)

"""What faults cost: KL divergence and top-1 agreement against the same image without them.

Any change of a signal, however small, rounds all that follow otherwise, and that alone is a
distance between two runs of about the datapath's own. `excess` leaves it out: it is the distance
of the faulty chip from the image's weights in float32, less that of the sound chip.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.chip import Chip
from emulator.quality.evaluate import Distance, log_softmax, real
from emulator.quality.float_model import FloatModel
from emulator.silicon.spec import ChipSpec
from emulator.verification.faults import Fault, faulty_chip
from weights.rom import RomImage

BUDGET_KL = 0.003  # nats: what the datapath itself may cost, docs/datapath.md
Logits = NDArray[np.int32]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Point:
    """One rate at one place; `hits` are summed over seeds, distances are their mean."""

    place: str
    rate: float
    hits: int  # units; of the KV SRAM none are counted
    kl_mean: float  # nats
    kl_p99: float
    top1_loss: float  # share of positions with another best token
    excess_kl: float | None  # None without a float model
    by_seed: tuple[float, ...]  # excess where there is one, else KL

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def matrices_of(image: RomImage, by: str) -> dict[str, set[str]]:
    """Groups of matrices by name: all of them, by class of tensor, or by layer."""
    groups: dict[str, set[str]] = {"all": set(image.matrices)}
    if by != "none":
        for name in image.matrices:  # such as layers.3.q, or embedding
            parts = name.split(".")
            layer = f"layer {parts[1]}" if len(parts) == 3 else name
            groups.setdefault(layer if by == "layer" else parts[-1], set()).add(name)
    return groups


def sweep(
    image: RomImage,
    kind: str,
    rates: list[float],
    seeds: list[int],
    groups: dict[str, set[str]],
    windows: list[list[int]],
    spec: ChipSpec,
    with_float: bool = False,
    progress: Progress | None = None,
) -> Iterator[Point]:
    """A point for each group and rate, groups first. The windows are of equal length."""
    window = len(windows[0])
    sound = [_scored(Chip(image, window), ids) for ids in windows]
    exact = _float_logits(image, windows) if with_float else []
    floor = _mean_kl(exact, sound)
    done, total = 0, len(groups) * len(rates) * len(seeds)
    for place, names in groups.items():
        for rate in rates:
            reports, excess, hits = [], [], 0
            for seed in seeds:
                chip, more = faulty_chip(image, Fault(kind, rate, seed), names, spec, window)
                hits += more
                broken = []
                for ids in windows:
                    chip.rewind(0)
                    broken.append(_scored(chip, ids))
                distance = Distance()
                for one, other in zip(sound, broken, strict=True):
                    distance.add(_log_p(one), _log_p(other))
                reports.append(distance.report())
                if with_float:
                    excess.append(_mean_kl(exact, broken) - floor)
                done += 1
                if progress is not None:
                    progress(done, total)
            yield _point(place, rate, hits, reports, excess)


def rate_within(points: list[Point], budget_kl: float) -> float | None:
    """The rate at which the excess reaches the budget, on a line between two measured points.

    None where no pair of neighbours encloses it: nothing is extrapolated.
    """
    known = [(p.rate, p.excess_kl) for p in points if p.excess_kl is not None]
    for (rate, low), (next_rate, high) in itertools.pairwise(known):
        if low <= budget_kl < high:
            return rate + (next_rate - rate) * (budget_kl - low) / (high - low)
    return None


def _point(
    place: str, rate: float, hits: int, reports: list[dict[str, float]], excess: list[float]
) -> Point:
    def mean(key: str) -> float:
        return float(np.mean([report[key] for report in reports]))

    by_seed = tuple(excess or [report["kl_mean"] for report in reports])
    loss = 1 - mean("top1_agreement")
    over = float(np.mean(excess)) if excess else None
    return Point(place, rate, hits, mean("kl_mean"), mean("kl_p99"), loss, over, by_seed)


def _float_logits(image: RomImage, windows: list[list[int]]) -> list[NDArray[np.float32]]:
    """Logits of the masks' weights in float32, of each window's second half."""
    model = FloatModel.of_image(image)
    return [model.forward(ids)[len(ids) // 2 :].astype(np.float32) for ids in windows]


def _mean_kl(exact: list[NDArray[np.float32]], chips: list[Logits]) -> float:
    """KL of the chip's logits from the exact ones, nats; 0 where there are none."""
    distance = Distance()
    for one, other in zip(exact, chips, strict=False):
        distance.add(log_softmax(one), _log_p(other))
    return distance.report()["kl_mean"] if exact else 0.0


def _scored(chip: Chip, ids: list[int]) -> Logits:
    """Logits of a window's second half."""
    return chip.forward(ids, all_logits=True).logits[len(ids) // 2 :]


def _log_p(logits: Logits) -> NDArray[np.float64]:
    return log_softmax(real(logits))

"""What faults cost: KL divergence and top-1 agreement against the same image without them.

Any change of a signal, however small, rounds all that follow otherwise, and that alone is a
distance between two runs of about the datapath's own. `excess` leaves it out: it is the distance
of the faulty chip from the image's weights in float32, less that of the sound chip.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.chip import Chip
from emulator.quality.elsewhere import Address, image_address, image_at
from emulator.quality.evaluate import Distance, log_softmax, real
from emulator.quality.float_model import FloatModel
from emulator.silicon.spec import ChipSpec
from emulator.verification.faults import Fault, faulty_chip
from emulator.workers.pool import in_order
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
    workers: Executor | None = None,
) -> Iterator[Point]:
    """A point for each group and rate, groups first. The windows are of equal length.

    With workers each run with faults is a job; they open the image by its path.
    """
    total = len(groups) * len(rates) * len(seeds)
    faults = (
        (Fault(kind, rate, seed), names)
        for names in groups.values()
        for rate in rates
        for seed in seeds
    )
    if workers is None:
        sound = sound_runs(image, windows, with_float)
        runs = in_order(None, run, ((image, sound, fault, names, spec) for fault, names in faults))
    else:
        where, text = image_address(image), tuple(map(tuple, windows))
        arguments = ((where, text, with_float, fault, names, spec) for fault, names in faults)
        runs = in_order(workers, run_at, arguments)
    done = 0
    for place, rate in itertools.product(groups, rates):
        found = []
        for one in itertools.islice(runs, len(seeds)):
            found.append(one)
            done += 1
            if progress is not None:
                progress(done, total)
        yield _point(place, rate, found)


@dataclass(frozen=True, slots=True)
class Sound:
    """The windows and what the chip without faults makes of them."""

    windows: Sequence[Sequence[int]]
    logits: list[Logits]  # of each window's second half
    exact: list[NDArray[np.float32]]  # of the masks' weights in float32, or none
    floor_kl: float  # of the sound chip from the exact ones


@dataclass(frozen=True, slots=True)
class Run:
    """One set of faults: how many units they hit and what that costs."""

    hits: int
    report: dict[str, float]
    excess_kl: float | None


def sound_runs(image: RomImage, windows: Sequence[Sequence[int]], with_float: bool) -> Sound:
    """Run the windows on the image as it is."""
    logits = [_scored(Chip(image, len(windows[0])), ids) for ids in windows]
    exact = _float_logits(image, windows) if with_float else []
    return Sound(windows, logits, exact, _mean_kl(exact, logits))


def run(image: RomImage, sound: Sound, fault: Fault, names: set[str], spec: ChipSpec) -> Run:
    """Put faults into the named matrices and run the windows again."""
    chip, hits = faulty_chip(image, fault, names, spec, len(sound.windows[0]))
    broken = []
    for ids in sound.windows:
        chip.rewind(0)
        broken.append(_scored(chip, ids))
    distance = Distance()
    for one, other in zip(sound.logits, broken, strict=True):
        distance.add(_log_p(one), _log_p(other))
    excess = _mean_kl(sound.exact, broken) - sound.floor_kl if sound.exact else None
    return Run(hits, distance.report(), excess)


def run_at(
    where: Address,
    windows: tuple[tuple[int, ...], ...],
    with_float: bool,
    fault: Fault,
    names: set[str],
    spec: ChipSpec,
) -> Run:
    """`run` in a worker, which runs the sound chip once."""
    return run(image_at(where), _sound_at(where, windows, with_float), fault, names, spec)


@lru_cache(maxsize=1)
def _sound_at(where: Address, windows: tuple[tuple[int, ...], ...], with_float: bool) -> Sound:
    return sound_runs(image_at(where), windows, with_float)


def rate_within(points: list[Point], budget_kl: float) -> float | None:
    """The rate at which the excess reaches the budget, on a line between two measured points.

    None where no pair of neighbours encloses it: nothing is extrapolated.
    """
    known = [(p.rate, p.excess_kl) for p in points if p.excess_kl is not None]
    for (rate, low), (next_rate, high) in itertools.pairwise(known):
        if low <= budget_kl < high:
            return rate + (next_rate - rate) * (budget_kl - low) / (high - low)
    return None


def _point(place: str, rate: float, runs: list[Run]) -> Point:
    def mean(key: str) -> float:
        return float(np.mean([one.report[key] for one in runs]))

    hits = sum(one.hits for one in runs)
    excess = [one.excess_kl for one in runs if one.excess_kl is not None]
    by_seed = tuple(excess or [one.report["kl_mean"] for one in runs])
    loss = 1 - mean("top1_agreement")
    over = float(np.mean(excess)) if excess else None
    return Point(place, rate, hits, mean("kl_mean"), mean("kl_p99"), loss, over, by_seed)


def _float_logits(image: RomImage, windows: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
    """Logits of the masks' weights in float32, of each window's second half."""
    model = FloatModel.of_image(image)
    return [model.forward(list(ids))[len(ids) // 2 :].astype(np.float32) for ids in windows]


def _mean_kl(exact: list[NDArray[np.float32]], chips: list[Logits]) -> float:
    """KL of the chip's logits from the exact ones, nats; 0 where there are none."""
    distance = Distance()
    for one, other in zip(exact, chips, strict=False):
        distance.add(log_softmax(one), _log_p(other))
    return distance.report()["kl_mean"] if exact else 0.0


def _scored(chip: Chip, ids: Sequence[int]) -> Logits:
    """Logits of a window's second half."""
    return chip.forward(list(ids), all_logits=True).logits[len(ids) // 2 :]


def _log_p(logits: Logits) -> NDArray[np.float64]:
    return log_softmax(real(logits))

"""Distances between models over a text: perplexity, KL divergence, agreement of the best tokens.

The protocol is that of llama.cpp's perplexity tool: windows are cut one after another from the
start of the token stream, and each is scored on its second half. KL by position covers the first
half too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from emulator.chip import Chip
from emulator.errors import UsageError
from emulator.quality.float_model import FloatModel
from kernels.reference import FRACTION
from weights.rom import RomImage

Float64 = NDArray[np.float64]
DISTANCES = ("quantiser", "datapath", "total")
ROWS = 4  # positions that a thread compares at a time: 49,152 float64 each, near its core's cache
FIVE = 5  # best tokens of a position that are compared
Progress = Callable[[int, int], None]  # (windows done, windows in all)


@dataclass(frozen=True, slots=True)
class Chances:
    """What a model expects at some positions: every token's log-probability, and the best five."""

    log_p: Float64  # [positions, vocabulary]
    best: NDArray[np.int64]  # [positions, FIVE]

    @classmethod
    def of(cls, log_p: Float64) -> Chances:
        return cls(log_p, best(log_p, FIVE))


@dataclass(slots=True)
class Distance:
    """KL divergence in nats between two models, and how many best tokens they share."""

    kl: list[Float64] = field(default_factory=list)
    same: list[NDArray[np.bool_]] = field(default_factory=list)
    shared5: list[Float64] = field(default_factory=list)  # of the five best tokens, 0 to 1

    def add(self, log_p: Float64, log_q: Float64) -> None:
        """Add log-probabilities [positions, vocabulary] of the reference and of the other model."""
        for at in range(0, len(log_p), ROWS):
            self.compare(Chances.of(log_p[at : at + ROWS]), Chances.of(log_q[at : at + ROWS]))

    def compare(self, p: Chances, q: Chances) -> None:
        """Add positions of the reference and of the other model."""
        self.kl.append(divergence(p.log_p, q.log_p))
        self.same.append(p.best[:, 0] == q.best[:, 0])
        both = (p.best[:, :, None] == q.best[:, None, :]).any(axis=-1)
        self.shared5.append(both.mean(axis=-1))

    def extend(self, other: Distance) -> None:
        """Add the positions of another, in order."""
        self.kl += other.kl
        self.same += other.same
        self.shared5 += other.shared5

    def report(self) -> dict[str, float]:
        """Mean and 99th percentile of KL; shares of equal best tokens and of shared five best."""
        kl = np.concatenate(self.kl)
        return {
            "kl_mean": float(kl.mean()),
            "kl_p99": float(np.quantile(kl, 0.99)),
            "top1_agreement": float(np.concatenate(self.same).mean()),
            "top5_agreement": float(np.concatenate(self.shared5).mean()),
        }


@dataclass(slots=True)
class WindowDistance:
    """Distances over windows of equal length: only the second half is scored."""

    window: int
    first: Distance = field(default_factory=Distance)
    second: Distance = field(default_factory=Distance)

    def add(self, log_p: Float64, log_q: Float64) -> None:
        """Add log-probabilities [window - 1, vocabulary] of all positions but the last."""
        half = self.window // 2
        self.first.add(log_p[:half], log_q[:half])
        self.second.add(log_p[half:], log_q[half:])

    def extend(self, other: WindowDistance) -> None:
        """Add the windows of another, in order."""
        self.first.extend(other.first)
        self.second.extend(other.second)

    def report(self) -> dict[str, object]:
        """`Distance.report` of the second halves, and `kl_by_position` over the `bins`."""
        half = self.window // 2
        kl = np.concatenate(
            [
                np.concatenate(part.kl).reshape(-1, length)
                for part, length in ((self.first, half), (self.second, self.window - 1 - half))
            ],
            axis=1,
        )
        by_position = [float(kl[:, start:end].mean()) for start, end in bins(self.window)]
        return {**self.second.report(), "kl_by_position": by_position}


def bins(window: int) -> list[tuple[int, int]]:
    """Up to 16 runs [start, end) of nearly equal length over the positions that predict a token."""
    predicting = window - 1
    cuts = np.linspace(0, predicting, min(16, predicting) + 1).round().astype(int).tolist()
    return list(pairwise(cuts))


def best(log_p: Float64, count: int) -> NDArray[np.int64]:
    """Ids of the `count` likeliest tokens, best first: [positions, vocabulary] -> [.., count]."""
    left, rows = log_p.copy(), np.arange(len(log_p))
    ids = np.empty((len(log_p), min(count, log_p.shape[-1])), np.int64)
    for k in range(ids.shape[1]):  # far cheaper than a partition of each row
        ids[:, k] = left.argmax(axis=-1)
        left[rows, ids[:, k]] = -np.inf
    return ids


@dataclass(frozen=True, slots=True)
class Models:
    """What a window is scored on."""

    reference: FloatModel
    masks: FloatModel
    chip: Chip


@dataclass(slots=True)
class Scores:
    """Distances and losses over windows of equal length."""

    window: int
    distances: dict[str, WindowDistance] = field(init=False)
    losses: dict[str, list[Float64]] = field(init=False)  # an array a window

    def __post_init__(self) -> None:
        self.distances = {name: WindowDistance(self.window) for name in DISTANCES}
        self.losses = {"reference": [], "chip": []}

    @property
    def windows(self) -> int:
        """How many, by the positions that are scored of each."""
        return sum(map(len, self.losses["chip"])) // (self.window - 1 - self.window // 2)

    def extend(self, other: Scores) -> None:
        """Add the windows of another, in order."""
        for name, distance in self.distances.items():
            distance.extend(other.distances[name])
        for name, losses in other.losses.items():
            self.losses[name] += losses


def score(models: Models, ids: list[int]) -> Scores:
    """Score one window on the reference, the masks' weights and the chip.

    The float models side by side; then a few positions at a time, on all cores: a window's
    log-probabilities would take 200 MB a model.
    """
    models.chip.rewind(0)
    with ThreadPoolExecutor(2) as pool:
        logits = list(pool.map(lambda model: model.forward(ids), (models.reference, models.masks)))
    integers = models.chip.forward(ids, all_logits=True).logits
    half, last = len(ids) // 2, len(ids) - 1

    def compare(cut: tuple[int, int]) -> Scores:
        part, at = Scores(len(ids)), slice(*cut)
        rows: list[NDArray] = [*(one[at] for one in logits), real(integers[at])]
        original, masked, integer = (Chances.of(log_softmax(one)) for one in rows)
        pairs = {"quantiser": (original, masked), "datapath": (masked, integer)}
        for name, pair in (pairs | {"total": (original, integer)}).items():
            halves = part.distances[name]
            (halves.first if cut[0] < half else halves.second).compare(*pair)
        if cut[0] >= half:
            targets = ids[cut[0] + 1 : cut[1] + 1]
            for name, chances in (("reference", original), ("chip", integer)):
                part.losses[name].append(losses_of(chances.log_p, targets))
        return part

    scores = Scores(len(ids))
    cuts = [*range(0, half, ROWS), *range(half, last, ROWS), last]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part in pool.map(compare, pairwise(cuts)):
            scores.extend(part)
    scores.losses = {name: [np.concatenate(parts)] for name, parts in scores.losses.items()}
    return scores


def evaluate(
    reference: FloatModel,
    masks: FloatModel,
    chip: Chip,
    windows: list[list[int]],
    progress: Progress | None = None,
) -> dict[str, object]:
    """Score windows one after another, see `report`.

    There is at least one window, and all have equal length. Raises UsageError if they are longer
    than the chip's context.
    """
    check_window(chip, len(windows[0]))
    models = Models(reference, masks, chip)
    scores = Scores(len(windows[0]))
    for done, ids in enumerate(windows, 1):
        scores.extend(score(models, ids))
        if progress is not None:
            progress(done, len(windows))
    return report(scores, chip.image.bits_per_weight)


def report(scores: Scores, bits_per_weight: float) -> dict[str, object]:
    """Distances of the original weights, the masks' weights and the chip from each other.

    quantiser: original weights against the masks' weights, both in float32.
    datapath: the masks' weights in float32 against the chip.
    total: original weights against the chip.
    """
    losses = {name: np.concatenate(values) for name, values in scores.losses.items()}
    return {
        "window": scores.window,
        "windows": scores.windows,
        "positions": sum(kl.size for kl in scores.distances["total"].second.kl),
        "bins": bins(scores.window),
        "bits_per_weight": bits_per_weight,
        "ppl_reference": float(np.exp(losses["reference"].mean())),
        "ppl_chip": float(np.exp(losses["chip"].mean())),
        **{name: distance.report() for name, distance in scores.distances.items()},
    }


def divergence(log_p: Float64, log_q: Float64) -> Float64:
    """KL in nats of log-probabilities [positions, vocabulary] -> [positions]."""
    kl: Float64 = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
    return kl


def check_window(chip: Chip | RomImage, window: int) -> None:
    """Raise UsageError if a window of `window` tokens is longer than the chip's context."""
    if window > chip.context:
        raise UsageError(f"a window of {window} does not fit the chip's {chip.context} positions")


def scored_losses(log_p: Float64, ids: list[int]) -> Float64:
    """-ln p of the tokens of a window's second half; the row at position p predicts token p + 1.

    `log_p` [window - 1, vocabulary].
    """
    half = len(ids) // 2
    return losses_of(log_p[half:], ids[half + 1 :])


def losses_of(log_p: Float64, targets: list[int]) -> Float64:
    """-ln p of a token at each position [positions, vocabulary]."""
    found = np.take_along_axis(log_p, np.array(targets)[:, None], axis=-1)
    losses: Float64 = -found[:, 0]
    return losses


def chip_logits(chip: Chip, tokens: list[int]) -> Float64:
    """The chip's logits for tokens at its next positions, as real numbers."""
    return real(chip.forward(tokens, all_logits=True).logits)


def real(logits: NDArray[np.int32]) -> Float64:
    """The real numbers that the chip's logits stand for."""
    return np.ldexp(logits.astype(np.float64), -FRACTION)


def log_softmax(logits: NDArray) -> Float64:
    """Natural logarithms of probabilities, float64."""
    log_p: Float64 = logits - logits.max(axis=-1, keepdims=True).astype(np.float64)
    log_p -= np.log(np.exp(log_p).sum(axis=-1, keepdims=True))
    return log_p

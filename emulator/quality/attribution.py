"""What each block and each cause costs: the KL divergence when it alone is as on the chip.

KL adds up over tensors to a good approximation, so the weights' figures also say where bits are
worth most (`weights.allocate`). Windows are scored on their second half, as `evaluate` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from emulator.chip import Chip
from emulator.quality.evaluate import check_window, chip_logits, divergence, log_softmax
from emulator.quality.float_model import Float32, FloatModel
from emulator.quality.tap_points import PLACES, AsChip
from weights.checkpoint import LAYER_MATRICES

Progress = Callable[[int, int], None]  # (figures done, figures in all)
DEPTHS = 6  # runs of layers of nearly equal length


def kl_by_group(
    exact: FloatModel,
    masks: FloatModel,
    windows: list[list[int]],
    depths: int = DEPTHS,
    progress: Progress | None = None,
) -> dict[str, list[float]]:
    """Mean KL in nats of each class of matrices, by depth; "embedding" has one figure.

    `exact` is the original model in the chip's basis (`FloatModel.folded`), `masks` the image's.
    What a tied head costs is under "embedding".
    """
    changed = {
        name: replace(
            exact,
            layers=[
                {**layer, name: mask[name]}
                for layer, mask in zip(exact.layers, masks.layers, strict=True)
            ],
        )
        for name in LAYER_MATRICES
    }
    table = replace(exact, embedding=masks.embedding, head=masks.head)
    runs = _Runs(exact, windows, depths)
    figures = _counted(progress, len(changed) * runs.count + 1)
    result = runs.by_depth(changed, figures)
    result["embedding"] = [runs.mean_kl(table, [table.embedding[ids] for ids in windows], 0)]
    next(figures)
    return result


def kl_by_place(
    masks: FloatModel,
    windows: list[list[int]],
    depths: int = DEPTHS,
    progress: Progress | None = None,
) -> dict[str, list[float]]:
    """Mean KL in nats of each tap point (PLACES), by depth; "head_input" has one figure.

    It compares the model with the masks' weights, exact, and with that point rounded as on the
    chip.
    """
    changed = {name: replace(masks, places=AsChip(frozenset({name}))) for name in PLACES}
    head = changed.pop("head_input")
    runs = _Runs(masks, windows, depths)
    figures = _counted(progress, len(changed) * runs.count + 1)
    result = runs.by_depth(changed, figures)
    result["head_input"] = [runs.mean_kl(head, runs.last, len(masks.layers))]
    next(figures)
    return {name: result[name] for name in PLACES}


def kl_together(masks: FloatModel, chip: Chip, windows: list[list[int]]) -> dict[str, float]:
    """Mean KL in nats of all tap points rounded at once in float32, and of the chip itself.

    If the two are close, the tap points explain the chip. Raises UsageError if a window is longer
    than the chip's context.
    """
    check_window(chip, len(windows[0]))
    simulated = replace(masks, places=AsChip(frozenset(PLACES)))
    kl: dict[str, list[NDArray[np.float64]]] = {"all_places": [], "chip": []}
    for ids in windows:
        half, last = len(ids) // 2, len(ids) - 1
        log_p = log_softmax(masks.forward(ids, list(range(half, last))))
        chip.rewind(0)
        for name, logits in (
            ("all_places", simulated.forward(ids, list(range(half, last)))),
            ("chip", chip_logits(chip, ids)[half:last]),
        ):
            kl[name].append(divergence(log_p, log_softmax(logits)))
    return {name: float(np.concatenate(values).mean()) for name, values in kl.items()}


class _Runs:
    """A model's layers cut into runs, and its own outputs for windows of tokens."""

    def __init__(self, model: FloatModel, windows: list[list[int]], depths: int) -> None:
        layers = len(model.layers)
        self.model = model
        self.cuts = np.linspace(0, layers, min(depths, layers) + 1).round().astype(int).tolist()
        self.first = [model.embedding[ids] for ids in windows]  # residual streams
        self.last = [_run(model, r, 0, layers) for r in self.first]
        self.log_p = [_log_p(model, r) for r in self.last]

    @property
    def count(self) -> int:
        return len(self.cuts) - 1

    def by_depth(
        self, changed: dict[str, FloatModel], figures: Iterator[None]
    ) -> dict[str, list[float]]:
        """Mean KL of each changed model, which replaces one run of layers at a time."""
        result: dict[str, list[float]] = {name: [] for name in changed}
        residuals = self.first
        for start, end in pairwise(self.cuts):
            for name, other in changed.items():
                after = [_run(other, r, start, end) for r in residuals]
                result[name].append(self.mean_kl(self.model, after, end))
                next(figures)
            residuals = [_run(self.model, r, start, end) for r in residuals]
        return result

    def mean_kl(self, model: FloatModel, residuals: list[Float32], start: int) -> float:
        """Mean KL of the model's outputs for residual streams that enter layer `start`."""
        ends = (_run(model, r, start, len(model.layers)) for r in residuals)
        pairs = zip(self.log_p, ends, strict=True)
        return float(
            np.concatenate([divergence(log_p, _log_p(model, r)) for log_p, r in pairs]).mean()
        )


def _counted(progress: Progress | None, total: int) -> Iterator[None]:
    """Each `next` reports one more figure to `progress`."""
    for done in range(1, total + 1):
        if progress is not None:
            progress(done, total)
        yield


def _run(model: FloatModel, r: Float32, start: int, end: int) -> Float32:
    """The residual stream after layers `start` to `end`."""
    for number in range(start, end):
        r = model.layer(number, r)
    return r


def _log_p(model: FloatModel, r: Float32) -> NDArray[np.float64]:
    return log_softmax(model.logits(r[len(r) // 2 : -1]))

"""Which tensors cost how much: the KL divergence when they alone are as the masks hold them.

KL adds up over tensors to a good approximation, so these figures also say where bits are worth
most (`weights.allocate`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from emulator.quality.evaluate import log_softmax
from emulator.quality.reference import Float32, FloatModel
from weights.checkpoint import LAYER_MATRICES

Progress = Callable[[int, int], None]  # (groups done, groups in all)


def kl_by_group(
    exact: FloatModel,
    masks: FloatModel,
    windows: list[list[int]],
    depths: int = 6,
    progress: Progress | None = None,
) -> dict[str, list[float]]:
    """Mean KL in nats of each class of matrices, by depth; "embedding" has one figure.

    The layers are cut into `depths` runs of nearly equal length. `exact` is the original model in
    the chip's basis (`FloatModel.folded`), `masks` the image's. Windows are scored on their
    second half, as `evaluate` does. What a tied head costs is under "embedding".
    """
    cuts = np.linspace(0, len(exact.layers), min(depths, len(exact.layers)) + 1).round().astype(int)
    result: dict[str, list[float]] = {name: [] for name in LAYER_MATRICES}
    total, done = len(result) * (len(cuts) - 1) + 1, 0
    residuals = [exact.embedding[ids] for ids in windows]
    originals = [_log_p(exact, _run(exact, r, 0)) for r in residuals]
    for start, end in pairwise(cuts):
        for name, costs in result.items():
            layers = list(exact.layers)
            for i in range(start, end):
                layers[i] = {**layers[i], name: masks.layers[i][name]}
            changed = replace(exact, layers=layers)
            costs.append(_mean_kl(changed, residuals, start, originals))
            done += 1
            if progress is not None:
                progress(done, total)
        residuals = [_run(exact, r, start, end) for r in residuals]
    table = replace(exact, embedding=masks.embedding, head=masks.head)
    embedded = [table.embedding[ids] for ids in windows]
    result["embedding"] = [_mean_kl(table, embedded, 0, originals)]
    if progress is not None:
        progress(total, total)
    return result


def _run(model: FloatModel, r: Float32, start: int, end: int | None = None) -> Float32:
    """The residual stream after layers `start` to `end`."""
    for w in model.layers[start:end]:
        r = model.layer(w, r)
    return r


def _log_p(model: FloatModel, r: Float32) -> NDArray[np.float64]:
    return log_softmax(model.logits(r[len(r) // 2 : -1]))


def _mean_kl(
    model: FloatModel, residuals: list[Float32], start: int, originals: list[NDArray[np.float64]]
) -> float:
    kl = []
    for r, log_p in zip(residuals, originals, strict=True):
        log_q = _log_p(model, _run(model, r, start))
        kl.append((np.exp(log_p) * (log_p - log_q)).sum(axis=-1))
    return float(np.concatenate(kl).mean())

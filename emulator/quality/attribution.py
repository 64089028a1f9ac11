"""Which tensor costs how much: the KL divergence when it alone is as the masks hold it.

KL adds up over tensors to a good approximation, so these figures also say where bits are worth
most (`weights.allocate`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from emulator.quality.evaluate import log_softmax
from emulator.quality.reference import Float32, FloatModel
from weights.checkpoint import LAYER_MATRICES

Progress = Callable[[int, int], None]  # (tensors done, tensors in all)


def kl_by_tensor(
    exact: FloatModel, masks: FloatModel, windows: list[list[int]], progress: Progress | None = None
) -> Iterator[tuple[str, float]]:
    """Names ("layers.0.q", .., "embedding") with the mean KL in nats of each tensor alone.

    `exact` is the original model in the chip's basis (`FloatModel.folded`), `masks` the image's.
    Windows are scored on their second half, as `evaluate` does.
    """
    count, total = 0, len(LAYER_MATRICES) * len(exact.layers) + 1
    residuals = [exact.embedding[ids] for ids in windows]
    originals = [_log_p(exact, _rest(exact, 0, r)) for r in residuals]
    for i, (w, masked) in enumerate(zip(exact.layers, masks.layers, strict=True)):
        for name in LAYER_MATRICES:
            changed = {**w, name: masked[name]}
            finals = [_rest(exact, i + 1, exact.layer(changed, r)) for r in residuals]
            yield f"layers.{i}.{name}", _mean_kl(exact, finals, originals)
            count += 1
            if progress is not None:
                progress(count, total)
        residuals = [exact.layer(w, r) for r in residuals]
    table = FloatModel(
        exact.config, exact.layers, masks.embedding, masks.head, exact.final_gain,
        exact.rotated_gain, exact.down_block,
    )  # fmt: skip
    finals = [_rest(exact, 0, table.embedding[ids]) for ids in windows]
    yield "embedding", _mean_kl(table, finals, originals)


def _rest(model: FloatModel, first: int, r: Float32) -> Float32:
    """The residual stream after layers `first` and on."""
    for w in model.layers[first:]:
        r = model.layer(w, r)
    return r


def _log_p(model: FloatModel, r: Float32) -> NDArray[np.float64]:
    half = len(r) // 2
    return log_softmax(model.logits(r[half:-1]))


def _mean_kl(
    model: FloatModel, finals: list[Float32], originals: list[NDArray[np.float64]]
) -> float:
    kl = []
    for r, log_p in zip(finals, originals, strict=True):
        kl.append((np.exp(log_p) * (log_p - _log_p(model, r))).sum(axis=-1))
    return float(np.concatenate(kl).mean())

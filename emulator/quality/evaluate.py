"""Distances between models over a text: perplexity, KL divergence, top-1 agreement.

The protocol is that of llama.cpp's perplexity tool: windows cut one after another from the
start of the token stream, each scored on its second half.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emulator.chip import Chip
from emulator.errors import UsageError
from emulator.quality.reference import FloatModel
from kernels.reference import FRACTION

Float64 = NDArray[np.float64]
Progress = Callable[[int, int], None]  # (windows done, windows in all)


@dataclass(slots=True)
class Distance:
    """KL divergence in nats and top-1 agreement of one model against another."""

    kl: list[Float64] = field(default_factory=list)
    same: list[NDArray[np.bool_]] = field(default_factory=list)

    def add(self, log_p: Float64, log_q: Float64) -> None:
        """Log-probabilities [positions, vocabulary] of the reference and of the other model."""
        self.kl.append((np.exp(log_p) * (log_p - log_q)).sum(axis=-1))
        self.same.append(log_p.argmax(axis=-1) == log_q.argmax(axis=-1))

    def report(self) -> dict[str, float]:
        """Mean and 99th percentile of KL, share of equal best tokens."""
        kl = np.concatenate(self.kl)
        return {
            "kl_mean": float(kl.mean()),
            "kl_p99": float(np.quantile(kl, 0.99)),
            "top1_agreement": float(np.concatenate(self.same).mean()),
        }


def evaluate(
    reference: FloatModel,
    masks: FloatModel,
    chip: Chip,
    windows: list[list[int]],
    progress: Progress | None = None,
) -> dict[str, object]:
    """Compare the original weights, the masks' weights and the chip on windows of tokens.

    quantiser: original weights against the masks' weights, both in float32.
    datapath: the masks' weights in float32 against the chip.
    total: original weights against the chip.
    The windows, at least one, are of equal length. Raises UsageError when that is more than the
    chip's positions.
    """
    window = len(windows[0])
    if window > chip.context:
        raise UsageError(f"a window of {window} does not fit the chip's {chip.context} positions")
    quantiser, datapath, total = Distance(), Distance(), Distance()
    losses: dict[str, list[Float64]] = {"reference": [], "chip": []}
    half = window // 2
    for done, ids in enumerate(windows, 1):
        chip.rewind(0)
        scored = slice(half, window - 1)  # the logits at position p speak of token p + 1
        original = log_softmax(reference.forward(ids)[scored])
        masked = log_softmax(masks.forward(ids)[scored])
        integer = log_softmax(chip_logits(chip, ids)[scored])
        quantiser.add(original, masked)
        datapath.add(masked, integer)
        total.add(original, integer)
        targets = np.array(ids[half + 1 :])[:, None]
        for name, log_p in (("reference", original), ("chip", integer)):
            losses[name].append(-np.take_along_axis(log_p, targets, axis=-1))
        if progress is not None:
            progress(done, len(windows))
    return {
        "window": window,
        "windows": len(windows),
        "positions": sum(kl.size for kl in total.kl),
        "bits_per_weight": chip.image.bits_per_weight,
        "ppl_reference": float(np.exp(np.concatenate(losses["reference"]).mean())),
        "ppl_chip": float(np.exp(np.concatenate(losses["chip"]).mean())),
        "quantiser": quantiser.report(),
        "datapath": datapath.report(),
        "total": total.report(),
    }


def chip_logits(chip: Chip, tokens: list[int]) -> Float64:
    """The chip's logits for tokens at its next positions, as real numbers."""
    return real(chip.forward(tokens, all_logits=True).logits)


def real(logits: NDArray[np.int32]) -> Float64:
    """The real numbers that the chip's logits stand for."""
    return np.ldexp(logits.astype(np.float64), -FRACTION)


def log_softmax(logits: NDArray) -> Float64:
    """Natural logarithms of probabilities, float64."""
    shifted = logits - logits.max(axis=-1, keepdims=True).astype(np.float64)
    log_p: Float64 = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return log_p

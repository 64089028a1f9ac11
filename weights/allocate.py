"""Where bits buy most: a mix for a target of average bits a weight.

KL divergence adds up over tensors, and a tensor's share falls by a fixed factor from one code
width to the next. So the bits go, step by step, to the tensor whose KL falls most for each.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np

from emulator.config import LlamaConfig
from emulator.errors import UsageError
from kernels.rom.pack import matrix_bits
from kernels.rom.widths import CODE_BITS, WIDTHS
from weights.checkpoint import LAYER_MATRICES, tensor_shape
from weights.mix import Mix

FAMILIES = {"hc1": (3, 6), "free": CODE_BITS}  # 3 and 6 bits are the vendor's
SMALL_PARAMETERS = 10**9  # above, running text through the model takes hours
LARGE_BITS = 3.7  # a weight, in the default mix of a large model
SMALL_BITS = 5.95  # of a small one, which loses more by each; docs/quality.md says why so many
# Figures of `eval --attribute --depths 30` for an all-3 image:
SENSITIVITY = Path(__file__).parent / "sensitivity.json"


def allocate(config: LlamaConfig, bits_per_weight: float, family: str = "hc1") -> Mix:
    """The mix of least predicted KL with at most `bits_per_weight`, scales included.

    Raises UsageError for a family that does not exist or a target below what its least width needs.
    """
    if family not in FAMILIES:
        raise UsageError(f"no family {family!r}; there are {', '.join(FAMILIES)}")
    if not math.isfinite(bits_per_weight):
        raise UsageError(f"bits a weight must be a number, not {bits_per_weight}")
    steps = FAMILIES[family]
    widths = dict.fromkeys(_tensors(config), steps[0])
    left = bits_per_weight * config.parameters
    left -= sum(_stored_bits(config, name, steps[0]) for name in widths)
    if left < 0:
        least = bits_per_weight - left / config.parameters
        raise UsageError(f"{bits_per_weight} bits a weight: this model needs at least {least:.3f}")
    upgrades = []  # (KL saved a bit, tensor, width)
    for name in widths:
        for now, wider in itertools.pairwise(steps):
            saved = predicted_kl(config, name, now) - predicted_kl(config, name, wider)
            upgrades.append((saved / _extra(config, name, now, wider), name, wider))
    for _, name, wider in sorted(upgrades, key=lambda u: (-u[0], u[2], u[1])):
        extra = _extra(config, name, widths[name], wider)
        if extra <= left:
            widths[name] = wider
            left -= extra
    return Mix.parse(_shortest(config, widths))


def default_mix(config: LlamaConfig, calibrated: bool) -> Mix:
    """3 and 6 bits, as HC1, where the masks are calibrated, which 3 bits need; else 6 bits.

    In a small model 3 bits are for the tensors that bear them best.
    """
    if not calibrated:
        return Mix.parse("6")
    bits = LARGE_BITS if config.parameters > SMALL_PARAMETERS else SMALL_BITS
    return allocate(config, bits, "hc1")


def predicted_kl(config: LlamaConfig, name: str, bits: int) -> float:
    """Mean KL in nats that a tensor adds at a code width, as far as the small model tells.

    Measured on SmolLM2-135M-Instruct by class and depth; other models are read at the same
    relative depth, which is an estimate.
    """
    table, left = _sensitivity(), WIDTHS[bits].error_left
    if "." not in name:
        return table["embedding"][0] * left
    _, layer, matrix = name.split(".")
    runs = table[matrix]  # KL of runs of layers, first to last
    place = (int(layer) + 0.5) / config.layers * len(runs) - 0.5
    layers_a_run = config.layers / len(runs)
    return float(np.interp(place, np.arange(len(runs)), runs)) / layers_a_run * left


@lru_cache(1)
def _sensitivity() -> dict[str, list[float]]:
    return dict(json.loads(SENSITIVITY.read_text("utf-8"))["kl_mean"])


def _tensors(config: LlamaConfig) -> list[str]:
    layers = [f"layers.{i}.{name}" for i in range(config.layers) for name in LAYER_MATRICES]
    return [*layers, "embedding", *([] if config.tied else ["head"])]


def _stored_bits(config: LlamaConfig, name: str, bits: int) -> int:
    """Of a tensor at a code width."""
    rows, columns = tensor_shape(config, name.rsplit(".", 1)[-1])
    return matrix_bits(rows, columns, bits, WIDTHS[bits].group)


def _extra(config: LlamaConfig, name: str, now: int, wider: int) -> int:
    return _stored_bits(config, name, wider) - _stored_bits(config, name, now)


def _shortest(config: LlamaConfig, widths: dict[str, int]) -> str:
    """The mix's text: a base, classes that mostly differ from it, single tensors that differ."""
    base = min(widths.values())
    parts, usual = [str(base)], {}
    for matrix in (*LAYER_MATRICES, "embedding", "head"):
        of_class = [w for name, w in widths.items() if name.rsplit(".", 1)[-1] == matrix]
        if not of_class:
            continue
        usual[matrix] = Counter(of_class).most_common(1)[0][0]
        if usual[matrix] != base:
            parts.append(f"{matrix}={usual[matrix]}")
    for i in range(config.layers):
        for matrix in LAYER_MATRICES:
            if (width := widths[f"layers.{i}.{matrix}"]) != usual[matrix]:
                parts.append(f"{i}.{matrix}={width}")
    return ",".join(parts)

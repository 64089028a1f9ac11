"""Masks that a worker makes: it reads the checkpoint by path, only inputs and masks travel.

A job is one fabric pass of a layer, so that its inputs' second moments and their factor are made
where they are used and never travel (1.6 GB for Llama 3.1 8B's down projection). Of a table with
many rows a job is a run of rows. Rows do not depend on each other, so the bytes are those of
`weights.compile` in one process.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future
from functools import lru_cache

import numpy as np

from kernels.rom.pack import TILE_ROWS, PackedMatrix
from weights.calibrate import INPUT_OF, Collected
from weights.checkpoint import LAYER_MATRICES, Checkpoint
from weights.fold import Fold
from weights.ldlq import DAMPING, Curvature, quantise_calibrated
from weights.mix import Mix
from weights.quantize import quantise
from weights.remote import address_of
from weights.sources import checkpoint_at

PASSES = tuple(dict.fromkeys(INPUT_OF[name] for name in LAYER_MATRICES))


def layer_jobs(
    executor: Executor,
    source: Checkpoint,
    seed: int,
    layer: int,
    mix: Mix,
    rounds: int,
    inputs: dict[str, Collected],
) -> list[Future[dict[str, PackedMatrix]]]:
    """Hand out a layer: a job for each fabric pass, of which `inputs` are empty if uncalibrated."""
    return [
        executor.submit(
            quantise_pass,
            address_of(source.where),
            source.digest,
            seed,
            layer,
            {n: mix.bits(n, layer) for n in LAYER_MATRICES if INPUT_OF[n] == name},
            rounds,
            inputs.get(name),
        )
        for name in PASSES
    ]


def quantise_pass(
    where: str,
    digest: str,
    seed: int,
    layer: int,
    bits: dict[str, int],
    rounds: int,
    inputs: Collected | None,
) -> dict[str, PackedMatrix]:
    """The masks of the matrices in `bits`, which read the same input."""
    fold = _fold(where, digest, seed)
    cost = Curvature.of(inputs.value) if inputs is not None else None
    return {
        name: masks_of(fold.layer_matrix(name, layer), width, cost, rounds)
        for name, width in bits.items()
    }


def masks_of(w: np.ndarray, bits: int, cost: Curvature | None, rounds: int) -> PackedMatrix:
    """Quantise with error feedback where the cost of errors is known."""
    return quantise(w, bits) if cost is None else quantise_calibrated(w, cost, bits, rounds)


def table_jobs(
    executor: Executor,
    source: Checkpoint,
    seed: int,
    name: str,
    bits: int,
    rounds: int,
    inputs: Collected | None,
    damping: float,
) -> list[Future[PackedMatrix]]:
    """Hand out "embedding" or "head", a run of rows for each worker."""
    rows = source.config.vocabulary
    step = -(-rows // (TILE_ROWS * getattr(executor, "count", 1))) * TILE_ROWS
    where, digest = address_of(source.where), source.digest
    return [
        executor.submit(
            quantise_rows, where, digest, seed, name, start, start + step, bits, rounds, inputs,
            damping,
        )
        for start in range(0, rows, step)
    ]  # fmt: skip


def quantise_rows(
    where: str,
    digest: str,
    seed: int,
    name: str,
    start: int,
    end: int,
    bits: int,
    rounds: int,
    inputs: Collected | None,
    damping: float = DAMPING,
) -> PackedMatrix:
    """The masks of rows `start` to `end` of a table."""
    fold = _fold(where, digest, seed)
    w = fold.embedding() if name == "embedding" else fold.head()
    cost = Curvature.of(inputs.value, damping) if inputs is not None else None
    return masks_of(w[start:end], bits, cost, rounds)


def stacked(parts: Iterator[PackedMatrix]) -> PackedMatrix:
    """Runs of whole tiles of rows as one matrix."""
    runs = list(parts)
    first = runs[0]
    return PackedMatrix(
        rows=sum(run.rows for run in runs),
        columns=first.columns,
        bits=first.bits,
        group=first.group,
        codes=np.concatenate([run.codes for run in runs]),
        group_scale=np.concatenate([run.group_scale for run in runs]),
        row_mantissa=np.concatenate([run.row_mantissa for run in runs]),
        row_exponent=np.concatenate([run.row_exponent for run in runs]),
        alphabet=first.alphabet,
    )


@lru_cache(maxsize=1)
def _fold(where: str, digest: str, seed: int) -> Fold:
    """This worker's copy of the checkpoint; see `checkpoint_at`."""
    return Fold(checkpoint_at(where, digest), seed)

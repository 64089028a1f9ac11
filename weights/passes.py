"""Masks that a worker makes: it reads the checkpoint by path, only inputs and masks travel.

A job is one fabric pass of a layer, so that its inputs' second moments and their factor are made
where they are used and never travel (1.6 GB for Llama 3.1 8B's down projection). Of a table with
many rows a job is a run of rows. Rows do not depend on each other, so the bytes are those of
`weights.compile` in one process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from kernels.rom.pack import TILE_ROWS, PackedMatrix
from weights.calibrate import INPUT_OF, Collected
from weights.checkpoint import LAYER_MATRICES
from weights.fold import Fold
from weights.ldlq import DAMPING, Curvature, quantise_calibrated
from weights.mix import Mix
from weights.quantize import quantise
from weights.remote import address_of
from weights.rom_writer import ImageWriter
from weights.sources import checkpoint_at

LAYERS_AHEAD = 1  # that workers make while the text passes through the next
PASSES = tuple(dict.fromkeys(INPUT_OF[name] for name in LAYER_MATRICES))


class Away:
    """Layers that workers are making, oldest first; shards are written in the layers' order."""

    def __init__(
        self,
        executor: Executor | None,
        fold: Fold,
        mix: Mix,
        rounds: int,
        writer: ImageWriter,
        advance: Callable[[int], None],
    ) -> None:
        self._executor, self._fold, self._mix, self._rounds = executor, fold, mix, rounds
        self._writer, self._advance = writer, advance
        self._sent: deque[_Layer] = deque()
        self._most = LAYERS_AHEAD + getattr(executor, "count", 1) // len(PASSES)

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way."""
        return not self._sent

    def send(
        self, layer: int, file: str, inputs: dict[str, Collected], vectors: dict[str, np.ndarray]
    ) -> None:
        """Hand out a layer, a job for each fabric pass; `inputs` are empty if uncalibrated.

        Waits for the oldest layer if many are on their way.
        """
        assert self._executor is not None
        source = self._fold.source
        jobs = [
            self._executor.submit(
                quantise_pass,
                address_of(source.where),
                source.digest,
                self._fold.seed,
                layer,
                {n: self._mix.bits(n, layer) for n in LAYER_MATRICES if INPUT_OF[n] == name},
                self._rounds,
                inputs.get(name),
            )
            for name in PASSES
        ]
        self._sent.append(_Layer(layer, file, jobs, vectors))
        while len(self._sent) > self._most:
            self._fetch()

    def fetch_all(self) -> None:
        """Wait for all and write their shards."""
        while self._sent:
            self._fetch()

    def _fetch(self) -> None:
        sent = self._sent.popleft()
        made: dict[str, PackedMatrix] = {}
        for job in sent.jobs:
            masks = job.result()
            made |= masks
            self._advance(len(masks))
        names = {f"layers.{sent.layer}.{name}": made[name] for name in LAYER_MATRICES}
        self._writer.add_shard(sent.file, names, sent.vectors)


@dataclass(frozen=True, slots=True)
class _Layer:
    layer: int
    file: str
    jobs: list[Future[dict[str, PackedMatrix]]]
    vectors: dict[str, np.ndarray]


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
    fold: Fold,
    name: str,
    bits: int,
    rounds: int,
    inputs: Collected | None,
    damping: float,
) -> list[Future[PackedMatrix]]:
    """Hand out "embedding" or "head", a run of rows for each worker."""
    rows = fold.source.config.vocabulary
    step = -(-rows // (TILE_ROWS * getattr(executor, "count", 1))) * TILE_ROWS
    checkpoint = address_of(fold.source.where), fold.source.digest, fold.seed
    how: tuple[Any, ...] = (bits, rounds, inputs, damping)
    return [
        executor.submit(quantise_rows, *checkpoint, name, start, start + step, *how)
        for start in range(0, rows, step)
    ]


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

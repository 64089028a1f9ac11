"""What a repair brings back: KL from the masks' weights in float32, broken and patched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from emulator.verification.repair import Energies, input_energies, patch_of
from emulator.workers.pool import in_order
from kernels.sram_matrix import MOST_RANK
from weights.rom import RomImage

KINDS = ("flip", "stuck", "row", "bank", "column", "lane")  # a bit of the KV SRAM has no place here
Progress = Callable[[int, int], None]
Windows = tuple[tuple[int, ...], ...]  # of tokens; can be a key of a cache


@dataclass(frozen=True, slots=True)
class Repaired:
    """One kind at one rate; KL in nats, less the sound chip's own where it says excess."""

    kind: str
    rate: float
    hits: int  # units
    sound_kl: float
    broken_excess: float
    repaired_excess: float
    sram_bits: int
    positions: int  # of the KV SRAM that the patch takes
    broken_top1: float  # share of positions with the float model's best token
    repaired_top1: float

    @property
    def recovered(self) -> float | None:
        """Share of the lost KL; None where nothing was lost."""
        lost = self.broken_excess
        return 1 - self.repaired_excess / lost if lost > 0 else None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "recovered": self.recovered}


def layer_matrices(image: RomImage) -> set[str]:
    """What can be patched: the embedding is read by row, and a head is left to its spare rows."""
    return {name for name in image.matrices if name.startswith("layers.")}


def repair_sweep(
    image: RomImage,
    kinds: tuple[str, ...],
    rates: dict[str, list[float]],  # by kind
    windows: list[list[int]],
    calibration: list[list[int]],
    spec: ChipSpec,
    budget_bits: int,
    rank: int = MOST_RANK,
    seed: int = 0,
    progress: Progress | None = None,
    workers: Executor | None = None,
) -> Iterator[Repaired]:
    """A point for each kind and rate. The second halves of the windows are scored.

    `calibration` are other windows, whose inputs say what is worth repairing. With workers each
    point is a job; they open the image by its path.
    """
    texts = tuple(map(tuple, windows)), tuple(map(tuple, calibration))
    faults = [Fault(kind, rate, seed) for kind in kinds for rate in rates[kind]]
    how = spec, budget_bits, rank
    if workers is None:
        sound = Sound.of(image, *texts)
        points = in_order(None, repaired, ((image, sound, fault, *how) for fault in faults))
    else:
        where = image_address(image)
        points = in_order(workers, repaired_at, ((where, texts, fault, *how) for fault in faults))
    for done, point in enumerate(points, 1):
        if progress is not None:
            progress(done, len(faults))
        yield point


@dataclass(frozen=True, slots=True)
class Sound:
    """What all points share: the windows, what they should give, and what matters to repair."""

    windows: Windows
    exact: list[NDArray[np.float64]]  # log p of the masks' weights in float32, second halves
    energies: Energies
    kl: float  # of the sound chip from the exact ones

    @classmethod
    def of(cls, image: RomImage, windows: Windows, calibration: Windows) -> Sound:
        model = FloatModel.of_image(image)
        exact = [log_softmax(model.forward(list(ids))[len(ids) // 2 :]) for ids in windows]
        del model
        energies = input_energies(image, [list(ids) for ids in calibration])
        kl = _distance(Chip(image, len(windows[0])), windows, exact)["kl_mean"]
        return cls(windows, exact, energies, kl)


def repaired(
    image: RomImage, sound: Sound, fault: Fault, spec: ChipSpec, budget_bits: int, rank: int
) -> Repaired:
    """Break the image, fit a patch, and score both."""
    names, window = layer_matrices(image), len(sound.windows[0])
    chip, hits = faulty_chip(image, fault, names, spec, window)
    broken = _distance(chip, sound.windows, sound.exact)
    patch = patch_of(image, fault, names, spec, sound.energies, budget_bits, rank)
    chip, _ = faulty_chip(image, fault, names, spec, window, patch)
    mended = _distance(chip, sound.windows, sound.exact)
    return Repaired(
        fault.kind,
        fault.rate,
        hits,
        sound.kl,
        broken["kl_mean"] - sound.kl,
        mended["kl_mean"] - sound.kl,
        patch.stored_bits,
        -(-patch.stored_bits // chip.position_bits),
        broken["top1_agreement"],
        mended["top1_agreement"],
    )


def repaired_at(where: Address, texts: tuple[Windows, Windows], *how: Any) -> Repaired:
    """`repaired` in a worker, which runs the sound chip once."""
    return repaired(image_at(where), _sound_at(where, *texts), *how)


@lru_cache(maxsize=1)
def _sound_at(where: Address, windows: Windows, calibration: Windows) -> Sound:
    return Sound.of(image_at(where), windows, calibration)


def _distance(chip: Chip, windows: Windows, exact: list[NDArray[np.float64]]) -> dict[str, float]:
    found = Distance()
    for ids, log_p in zip(windows, exact, strict=True):
        chip.rewind(0)
        logits = chip.forward(list(ids), all_logits=True).logits[len(ids) // 2 :]
        found.add(log_p, log_softmax(real(logits)))
    return found.report()

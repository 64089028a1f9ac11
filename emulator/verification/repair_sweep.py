"""What a repair brings back: KL from the masks' weights in float32, broken and patched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from emulator.chip import Chip
from emulator.quality.evaluate import Distance, log_softmax, real
from emulator.quality.float_model import FloatModel
from emulator.silicon.spec import ChipSpec
from emulator.verification.faults import Fault, faulty_chip
from emulator.verification.repair import input_energies, patch_of
from kernels.sram_matrix import MOST_RANK
from weights.rom import RomImage

KINDS = ("flip", "stuck", "row", "bank", "column", "lane")  # a bit of the KV SRAM has no place here
Progress = Callable[[int, int], None]


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
) -> Iterator[Repaired]:
    """A point for each kind and rate. The second halves of the windows are scored.

    `calibration` are other windows, whose inputs say what is worth repairing.
    """
    names, window = layer_matrices(image), len(windows[0])
    energies = input_energies(image, calibration)
    model = FloatModel.of_image(image)
    exact = [log_softmax(model.forward(ids)[window // 2 :]) for ids in windows]
    del model

    def distance(chip: Chip) -> dict[str, float]:
        found = Distance()
        for ids, log_p in zip(windows, exact, strict=True):
            chip.rewind(0)
            logits = chip.forward(ids, all_logits=True).logits[window // 2 :]
            found.add(log_p, log_softmax(real(logits)))
        return found.report()

    floor, done = distance(Chip(image, window))["kl_mean"], 0
    total = sum(len(rates[kind]) for kind in kinds)
    for kind in kinds:
        for rate in rates[kind]:
            fault = Fault(kind, rate, seed)
            chip, hits = faulty_chip(image, fault, names, spec, window)
            broken = distance(chip)
            patch = patch_of(image, fault, names, spec, energies, budget_bits, rank)
            chip, _ = faulty_chip(image, fault, names, spec, window, patch)
            repaired = distance(chip)
            done += 1
            if progress is not None:
                progress(done, total)
            yield Repaired(
                kind,
                rate,
                hits,
                floor,
                broken["kl_mean"] - floor,
                repaired["kl_mean"] - floor,
                patch.stored_bits,
                -(-patch.stored_bits // chip.position_bits),
                broken["top1_agreement"],
                repaired["top1_agreement"],
            )

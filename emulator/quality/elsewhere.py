"""Jobs of a worker that scores text: it opens image and checkpoint by path, once.

Only tokens travel to it, and a number a position back.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from socket import gethostname

from emulator.chip import Chip
from emulator.errors import ImageError
from emulator.quality.evaluate import Models, Progress, Scores, check_window, report, score
from emulator.quality.float_model import FloatModel
from emulator.workers.pool import Workers, in_order
from weights.checkpoint import Checkpoint
from weights.remote import address_of, forget, is_remote, local_copy
from weights.rom import RomImage, open_image
from weights.sources import checkpoint_at

Address = tuple[str, str]  # path, and the hash of what must be there


def image_address(image: RomImage) -> Address:
    """How a worker finds the image."""
    return address_of(image.folder), image.digest


def checkpoint_address(source: Checkpoint) -> Address:
    """How a worker finds the checkpoint."""
    return address_of(source.where), source.digest


@lru_cache(maxsize=1)
def image_at(address: Address) -> RomImage:
    """This computer's copy, with all hashes checked. Raises ImageError if it is another image."""
    where, digest = address
    image = open_remote(where)
    if image.digest != digest and is_remote(where):
        forget(where)
        image = open_remote(where)
    if image.digest != digest:
        raise ImageError(f"{where}: the copy on {gethostname()} is another image")
    return image


def open_remote(where: str) -> RomImage:
    """Open an image's folder, or its copy if `where` is an address that fsspec knows."""
    folder = local_copy(where) if is_remote(where) else Path(where)
    return open_image(folder)


@lru_cache(maxsize=1)
def models_at(image: Address, checkpoint: Address) -> Models:
    """Original weights, masks' weights and chip. Raises ImageError or CheckpointError."""
    rom = image_at(image)
    source = checkpoint_at(*checkpoint)
    return Models(FloatModel.of_checkpoint(source), FloatModel.of_image(rom), Chip(rom))


def score_window(image: Address, checkpoint: Address, ids: list[int]) -> Scores:
    """`evaluate.score` in a worker."""
    return score(models_at(image, checkpoint), ids)


def evaluate_on(
    workers: Workers,
    image: RomImage,
    source: Checkpoint,
    windows: list[list[int]],
    progress: Progress | None = None,
) -> dict[str, object]:
    """`evaluate.evaluate` with a job a window. Raises UsageError as it does."""
    check_window(image, len(windows[0]))
    where = image_address(image), checkpoint_address(source)
    scores = Scores(len(windows[0]))
    for done, one in enumerate(
        in_order(workers, score_window, ((*where, ids) for ids in windows)), 1
    ):
        scores.extend(one)
        if progress is not None:
            progress(done, len(windows))
    return report(scores, image.bits_per_weight)

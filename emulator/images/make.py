"""From a model's name to its image: resolve the name, choose a recipe, compile if needed."""

from __future__ import annotations

from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.errors import ImageError
from emulator.home import home
from emulator.images.folder import images_of, is_image, listed_image
from emulator.images.recipe import EMBEDDED, Recipe, embedded_folder, recipe_of
from emulator.terminal.progress import progress

# On two cores; about 10 s for the small model in `fast`, and 80 s in `best`.
SECONDS_A_PARAMETER = {"fast": 8e-8, "calibrated": 4e-7, "best": 6e-7}

if TYPE_CHECKING:
    from emulator.images.calibrator import ChipCalibrator
    from weights.checkpoint import Checkpoint
    from weights.compile import CompileOptions
    from weights.rom import RomImage


def open_named(model: str | Path = EMBEDDED) -> RomImage:
    """Open a model's image; on first use download and compile it, with a progress bar.

    `model` is a name that `models` lists, a hub repository (owner/repo[@revision]), a checkpoint's
    path, or an image's folder. Raises CheckpointError or ImageError if there is no such model or
    the cache folder cannot be used.
    """
    from weights.rom import open_image

    return open_image(image_folder(str(model)))


def open_folder_or_named(where: str) -> RomImage:
    """Open an image by its folder, or a model as `open_named` does."""
    from weights.rom import open_image

    return open_image(where) if is_image(where) else open_named(where)


def image_folder(model: str) -> Path:
    """Folder of a model's image, which is compiled if it does not exist yet."""
    with reading(model):
        found = resolve(model)
    return found if isinstance(found, Path) else ensure(recipe_of(found, model))


def reading(model: str) -> AbstractContextManager[object]:
    """Say that a checkpoint is read; of the hub's, its own library says more."""
    from weights.hub import Repository

    if Repository.named(model) and not Path(model).exists():
        return nullcontext()
    return progress("reading the checkpoint", about_s=4)


def resolve(model: str) -> Path | Checkpoint:
    """Resolve a name: the folder of an existing image, or the checkpoint to compile.

    An address that fsspec knows (s3://...) may lead to either.

    Image names come first, then checkpoints, then the hub, which is not asked again if an image of
    the repository exists. Raises ImageError for an unknown name.
    """
    from weights.hub import Repository
    from weights.remote import is_remote, local_copy

    if is_remote(model):
        copy = local_copy(model)
        return copy if is_image(copy) else checkpoint_of(model)
    if model == EMBEDDED:
        folder = embedded_folder()
        return folder if is_image(folder) else checkpoint_of(model)
    if model and (listed := listed_image(model)):
        return listed
    repository = Repository.named(model)
    if repository and not Path(model).exists() and (ready := images_of(repository)):
        return ready[0]
    if not repository and not Path(model).exists():
        raise ImageError(
            f"no model {model!r} in {home()}: `models` lists what is there, `compile` adds to it"
        )
    return checkpoint_of(model)


def checkpoint_of(model: str) -> Checkpoint:
    """The checkpoint of a name, downloaded if need be: the embedded model's, a path, the hub's.

    Raises CheckpointError.
    """
    from emulator.images.embedded import small_checkpoint
    from weights.gguf_source import GgufCheckpoint
    from weights.sources import open_checkpoint

    return GgufCheckpoint(small_checkpoint()) if model == EMBEDDED else open_checkpoint(model)


def ensure(recipe: Recipe) -> Path:
    """Return the recipe's folder; compile its image if it does not exist yet."""
    source, options = recipe.source, recipe.options
    if not is_image(recipe.folder):
        make_image(source, recipe.folder, options, calibrator_for(source, options.quantiser))
    return recipe.folder


def calibrator_for(
    source: Checkpoint, quantiser: str, text: Path | None = None
) -> ChipCalibrator | None:
    """The calibrator that a quantiser level needs, None for `fast`; see `calibrator_of`."""
    if quantiser == "fast":
        return None
    with progress("reading the calibration text", about_s=3):
        from emulator.images.calibrator import calibrator_of

        return calibrator_of(source, text)


def make_image(
    source: Checkpoint,
    folder: Path,
    options: CompileOptions,
    calibrator: ChipCalibrator | None,
    workers: Executor | None = None,
) -> None:
    """Compile to `folder`, with a progress bar."""
    from weights.compile import compile_image

    parameters = source.config.parameters
    about_s = parameters * SECONDS_A_PARAMETER[options.quantiser]
    with progress(f"compiling the {options.quantiser} masks, once", "matrices", about_s) as show:
        compile_image(source, folder, options, show, calibrator, workers)

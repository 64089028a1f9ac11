"""Where images live, and which one a command means."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.errors import ImageError, UsageError

if TYPE_CHECKING:
    from weights.compile import CompileOptions
    from weights.rom import RomImage

HOME_VARIABLE = "HARDWIRED_HOME"
EMBEDDED = "smollm2-135m"  # the model of `weights.gguf_source.embedded_checkpoint`


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """--model and --image."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--model",
        default=EMBEDDED,
        help="a name that `models` lists, a hub repository (owner/repo[@revision]) or a checkpoint",
    )
    which.add_argument("--image", type=Path, metavar="DIR", help="a ROM image anywhere")


def chosen_image(args: argparse.Namespace) -> RomImage:
    """The image of --image or --model, which is downloaded and compiled on first use.

    Raises CheckpointError or ImageError when there is none, or the cache folder cannot be used.
    """
    from weights.rom import open_image

    return open_image(args.image or image_folder(args.model))


def image_folder(model: str) -> Path:
    """Folder of a model's image: compiled ones by name, then checkpoints, then the hub.

    An image that was made of a hub repository is used without asking the hub again.
    """
    from emulator.commands.making import compiled, image_of
    from weights.hub import Repository
    from weights.sources import open_checkpoint

    if model == EMBEDDED:
        return embedded_image()
    if model and (named := listed_image(model)):
        return named
    repository = Repository.named(model)
    if repository and not Path(model).exists() and (ready := compiled(repository)):
        return ready[0]
    if not repository and not Path(model).exists():
        raise ImageError(
            f"no model {model!r} in {home()}: `models` lists what is there, `compile` adds to it"
        )
    return image_of(open_checkpoint(model))


def listed_image(name: str) -> Path | None:
    """Folder of the image of that name in the cache folder, if there is one."""
    folder = home() / name
    return folder if Path(name).name == name and is_image(folder) else None


def embedded_image() -> Path:
    """Folder of the embedded model's image, compiled if it is not there yet."""
    from emulator.commands.making import calibrator_for, make_image
    from weights.gguf_source import GgufCheckpoint, embedded_checkpoint

    folder = embedded_folder()
    if not is_image(folder):
        source = GgufCheckpoint(embedded_checkpoint())
        options = embedded_options()
        make_image(source, folder, options, calibrator_for(source, options.quantiser))
    return folder


def embedded_folder() -> Path:
    """Where the embedded model's image is, or would be."""
    from weights.compile import recipe_tag

    return home() / f"{EMBEDDED}-{recipe_tag(embedded_options())}"


def embedded_options() -> CompileOptions:
    """How the embedded model is compiled."""
    from emulator.commands.making import default_options
    from emulator.timing.models import known_model

    return default_options(known_model(EMBEDDED))


def home() -> Path:
    """The cache folder: HARDWIRED_HOME, or the platform's."""
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(os.environ.get(HOME_VARIABLE) or Path(cache) / "hardwired-llama")
    except RuntimeError:
        raise UsageError(f"no home folder; set {HOME_VARIABLE} to a folder for images") from None


def is_image(folder: Path) -> bool:
    """Whether the folder holds an image. Raises ImageError when one may not look."""
    from weights.rom import MANIFEST

    try:
        return (folder / MANIFEST).is_file()
    except OSError as error:
        raise unreadable(folder, error) from None


def unreadable(path: Path, error: OSError) -> ImageError:
    """The cache folder's error, with the way out."""
    hint = f"set {HOME_VARIABLE} to a folder of your own"
    return ImageError(f"{path}: cannot be read: {error.strerror}; {hint}")

"""--model and --image: the options of every command that needs an image."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.images.recipe import EMBEDDED

if TYPE_CHECKING:
    from weights.rom import RomImage


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
    from emulator.images.make import open_named
    from weights.rom import open_image

    return open_image(args.image) if args.image else open_named(args.model)

"""--lora: an adapter for the chip's SRAM."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weights.lora import Adapter
    from weights.rom import RomImage

HELP = "a LoRA adapter, as PEFT saves it (adapter_config.json, adapter_model.safetensors)"


def add_lora_option(parser: argparse.ArgumentParser, checkpoint: bool = True) -> None:
    """--lora, and --checkpoint where the command has no use of its own for it."""
    parser.add_argument("--lora", metavar="[NAME=]DIR", help=HELP)
    if checkpoint:
        add_checkpoint_option(parser)


def add_lora_options(parser: argparse.ArgumentParser) -> None:
    """The same for several adapters."""
    parser.add_argument(
        "--lora",
        metavar="[NAME=]DIR",
        action="append",
        default=[],
        help=f"{HELP}; as often as you like",
    )
    add_checkpoint_option(parser)


def add_checkpoint_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="PATH",
        help="what the image was made from, if it is neither embedded nor of the hub",
    )


def chosen_adapters(args: argparse.Namespace, image: RomImage) -> list[Adapter]:
    """The adapters of --lora, quantised for the image. Raises AdapterError or CheckpointError."""
    from emulator.images.adapters import load_adapters

    where = args.lora if isinstance(args.lora, list) else [args.lora] if args.lora else []
    return load_adapters(image, where, args.checkpoint) if where else []

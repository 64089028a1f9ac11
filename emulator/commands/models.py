"""`models`: what is embedded and what is compiled."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from emulator.commands.images import EMBEDDED, embedded_folder, home, is_image, unreadable
from emulator.errors import CheckpointError, ImageError


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("models", help="what is here, and what it takes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=_models)


def _models(args: argparse.Namespace) -> int:
    report = {
        "schema": 1,
        "home": str(home()),
        "embedded": _embedded(),
        "images": [_image(folder) for folder in _folders()],
    }
    if args.json:
        print(json.dumps(report))
    else:
        _print_table(report)
    return 0


def _embedded() -> dict[str, Any]:
    """The small model that needs no download."""
    from weights.gguf_source import embedded_checkpoint

    entry: dict[str, Any] = {"name": EMBEDDED, "compiled": is_image(embedded_folder())}
    try:
        path = embedded_checkpoint()
    except CheckpointError as error:
        return {**entry, "installed": False, "note": str(error)}
    return {**entry, "installed": True, "checkpoint_bytes": path.stat().st_size}


def _folders() -> list[Path]:
    """Image folders of the cache, by name; none when there is no cache yet."""
    try:
        return sorted(f for f in home().iterdir() if not f.name.startswith(".") and is_image(f))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(home(), error) from None


def _image(folder: Path) -> dict[str, Any]:
    """Facts of one image, or why it cannot be opened. Hashes are left to `info`."""
    from weights.rom import open_image

    try:
        image = open_image(folder, check_hashes=False)
    except ImageError as error:
        return {"name": folder.name, "error": str(error)}
    return {
        "name": folder.name,
        "checkpoint": image.manifest["checkpoint"]["name"],
        "mix": image.manifest["mix"],
        "bits_per_weight": image.bits_per_weight,
        "image_bytes": image.size_bytes,
        "context": image.context,
        "default": folder == embedded_folder(),
    }


def _print_table(report: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    embedded = report["embedded"]
    if not embedded["installed"]:
        state = embedded["note"]
    else:
        size = f"{embedded['checkpoint_bytes'] / 2**20:,.1f} MiB"
        state = f"{size}, {'compiled' if embedded['compiled'] else 'compiled on first use'}"
    console.print(f"embedded: {EMBEDDED} ({state})", soft_wrap=True, highlight=False)
    console.print(f"compiled, in {report['home']}:", soft_wrap=True, highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("name", overflow="fold")
    for title in ("mix", "bits a weight", "MiB", "positions"):
        table.add_column(title, justify="right")
    for image in report["images"]:
        if "error" in image:
            table.add_row(image["name"], "-", "unusable")
            continue
        bits, size = f"{image['bits_per_weight']:.3f}", f"{image['image_bytes'] / 2**20:,.1f}"
        table.add_row(image["name"], image["mix"], bits, size, f"{image['context']:,}")
    console.print(table if report["images"] else "  nothing yet")

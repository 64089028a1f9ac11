"""`models`: what is embedded, known, downloaded and compiled."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from emulator.errors import CheckpointError, ImageError, UsageError
from emulator.home import home
from emulator.images.folder import images_of, is_image, unreadable
from emulator.images.recipe import EMBEDDED, embedded_folder


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("models", help="what is here, and what it takes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=_models)


def _models(args: argparse.Namespace) -> int:
    from weights.hub import KNOWN

    report = {
        "schema": 1,
        "home": str(home()),
        "embedded": _embedded(),
        "known": [_known(name) for name in KNOWN],
        "images": [_image(folder) for folder in _folders()],
    }
    if args.json:
        print(json.dumps(report))
    else:
        print(_lines(report))
    return 0


def _embedded() -> dict[str, Any]:
    """The small model that needs no download."""
    from emulator.images.embedded import present_checkpoint

    entry: dict[str, Any] = {"name": EMBEDDED, "compiled": is_image(embedded_folder())}
    try:
        path = present_checkpoint()
    except CheckpointError as error:
        return {**entry, "installed": False, "note": str(error)}
    return {**entry, "installed": True, "checkpoint_bytes": path.stat().st_size}


def _known(name: str) -> dict[str, Any]:
    """A model of the hub that has a short name: what of it is on this computer."""
    from weights.hub import KNOWN, Repository, downloaded

    repository = Repository(KNOWN[name])
    source = downloaded(repository)
    return {
        "name": name,
        "repository": repository.name,
        "downloaded": source is not None,
        "commit": source.origin.commit if source and source.origin else None,
        "checkpoint_bytes": source.size_bytes if source else None,
        "images": [folder.name for folder in images_of(repository)],
    }


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


def short_mix(text: object) -> str:
    """A manifest's mix as people read it; whatever else stands there, as it is."""
    from weights.mix import Mix

    try:
        return Mix.parse(str(text)).short
    except UsageError:
        return str(text)


def _lines(report: dict[str, Any]) -> str:
    embedded = report["embedded"]
    if embedded["installed"]:
        size = f"{embedded['checkpoint_bytes'] / 2**20:,.1f} MiB"
        state = f"{size}, {'compiled' if embedded['compiled'] else 'compiled on first use'}"
    else:
        state = embedded["note"]
    lines = [f"embedded: {EMBEDDED} ({state})", "known, on the hub:"]
    for known in report["known"]:
        size = known["checkpoint_bytes"]
        have = f"downloaded, {size / 2**30:,.2f} GiB" if size else "not downloaded"
        made = ", compiled" if known["images"] else ""
        lines.append(f"  {known['name']:<15} {known['repository']} ({have}{made})")
    lines.append(f"compiled, in {report['home']}:")
    for image in report["images"]:
        lines.append(f"  {image['name']}")
        if "error" in image:
            lines.append(f"    unusable: {image['error']}")
        else:
            lines.append(
                f"    {image['bits_per_weight']:.3f} bits a weight, "
                f"{image['image_bytes'] / 2**20:,.1f} MiB, mix {short_mix(image['mix'])}, "
                f"{image['context']:,} positions"
            )
    return "\n".join(lines if report["images"] else [*lines, "  nothing yet"])

"""`info`: what an image holds, every hash checked."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.commands.models import short_mix
from emulator.errors import ImageError
from emulator.fields import printable
from emulator.home import home
from emulator.images.folder import images_of, listed_image
from emulator.images.make import image_folder
from emulator.images.recipe import EMBEDDED

if TYPE_CHECKING:
    from weights.rom import RomImage


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("info", help="what an image holds")
    parser.add_argument("image", help="folder of an image, or a name that `models` lists")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=_info)


def _info(args: argparse.Namespace) -> int:
    from weights.rom import open_image

    path = Path(args.image)
    image = open_image(path if path.is_dir() else _listed(args.image))
    report = facts(image)
    print(json.dumps(report) if args.json else _lines(report))
    return 0


def _listed(name: str) -> Path:
    """The image that `models` lists under `name`; nothing is compiled or downloaded for it."""
    from weights.hub import Repository

    if name == EMBEDDED:
        return image_folder(EMBEDDED)
    if folder := listed_image(name):
        return folder
    if (repository := Repository.named(name)) and (ready := images_of(repository)):
        return ready[0]
    raise ImageError(
        f"no image {name!r} in {home()}: `models` lists what is there, `compile` adds to it"
    )


def facts(image: RomImage) -> dict[str, Any]:
    """What the manifest says, and what follows from it, as plain values."""
    weights = Counter[int]()
    for matrix in image.matrices.values():
        weights[matrix.bits] += matrix.rows * matrix.columns
    manifest = image.manifest
    return {
        "schema": 1,
        "image": str(image.folder),
        "tool": manifest.get("tool"),
        "format_version": manifest["format_version"],
        "model": image.config.to_json(),
        "parameters": image.config.parameters,
        "context": image.context,
        "chat_style": manifest.get("chat_style"),
        "mix": manifest.get("mix"),
        "weights_by_code_bits": {str(bits): weights[bits] for bits in sorted(weights)},
        "bits_per_weight": image.bits_per_weight,
        "image_bytes": image.size_bytes,
        "rotation": manifest.get("rotation"),
        "checkpoint": manifest.get("checkpoint"),
        "notice": notice_of(image),
        "hashes_checked": 1 + len(manifest["files"]),  # rom.json and what it lists
        "digest": image.digest,
    }


def notice_of(image: RomImage) -> str | None:
    """The licence notice that the image carries."""
    from weights.rom_files import NOTICE

    path = image.folder / NOTICE
    listed = any(file["file"] == NOTICE for file in image.manifest["files"])
    return path.read_text("utf-8", "replace") if listed else None


def _lines(report: dict[str, Any]) -> str:
    model, checkpoint = report["model"], report["checkpoint"] or {}
    shares = ", ".join(f"{n:,} of {b} bits" for b, n in report["weights_by_code_bits"].items())
    rows = {
        "image": f"{report['image']}, format {report['format_version']}, by {report['tool']}",
        "checkpoint": f"{checkpoint.get('name')}, licence {checkpoint.get('license')}",
        "model": f"{report['parameters']:,} parameters, {model['layers']} layers, "
        f"hidden {model['hidden']}, ffn {model['ffn']}, vocabulary {model['vocabulary']:,}",
        "heads": f"{model['heads']} of {model['head_dim']} values, {model['kv_heads']} for K and V",
        "context": f"{report['context']:,} positions (the checkpoint: {model['context']:,})",
        "weights": f"{shares}; mix {short_mix(report['mix'])}",
        "size": f"{report['bits_per_weight']:.3f} bits a weight, "
        f"{report['image_bytes'] / 2**20:,.1f} MiB",
        "chat": f"{report['chat_style']}",
        "hashes": f"{report['hashes_checked']} files, all as written, digest "
        f"{report['digest'][:16]}",
    }
    if report["notice"]:
        rows["notice"] = ("\n" + " " * 11).join(report["notice"].strip().splitlines())
    notice = rows.pop("notice", None)
    lines = [f"{name:<11}{printable(text)}" for name, text in rows.items()]
    if notice is not None:
        lines.append(f"{'notice':<11}" + "\n".join(map(printable, notice.splitlines())))
    return "\n".join(lines)

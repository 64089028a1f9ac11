"""Damaged and foreign ROM images: each ends in one line of the right error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import refused

from emulator.errors import ImageError
from weights.rom import RomImage, open_image


@pytest.fixture
def image(tmp_path: Path, tiny_image: RomImage) -> Path:
    """A copy of the tiny image to break."""
    return Path(shutil.copytree(tiny_image.folder, tmp_path / "image"))


def edit(image: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change rom.json."""
    manifest = json.loads((image / "rom.json").read_text())
    change(manifest)
    (image / "rom.json").write_text(json.dumps(manifest))


SHARD = "layer-001.safetensors"


def test_flipped_byte(image):
    """One bit anywhere in a shard shows in its hash."""
    path = image / SHARD
    data = bytearray(path.read_bytes())
    for place in (0, len(data) // 2, len(data) - 1):
        data[place] ^= 1
        path.write_bytes(data)
        refused(ImageError, f"{SHARD}: its content has changed", lambda: open_image(image))
        data[place] ^= 1


def test_damaged_files(image):
    """Each file cut short or missing is named with what to do."""
    for name in ("tokenizer.json", "tables.safetensors", SHARD):
        path = image / name
        data = path.read_bytes()
        path.write_bytes(data[:-1])
        refused(ImageError, f"{name}: {len(data) - 1} bytes instead of", lambda: open_image(image))
        path.unlink()
        refused(ImageError, f"{name}: missing; delete the image", lambda: open_image(image))
        path.write_bytes(data)
    open_image(image)


def test_truncated_shard_without_hashes(image):
    """The fast way in finds it too, from the header."""
    path = image / SHARD
    for size in (0, 7, 100, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:size])
        refused(ImageError, "truncated", lambda: open_image(image, check_hashes=False))


def test_symlink(image):
    """A shard that is a link is refused, even to the same bytes."""
    path = image / SHARD
    path.rename(image.parent / SHARD)
    path.symlink_to(image.parent / SHARD)
    refused(ImageError, "is not a plain file name", lambda: open_image(image))


MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "future version": (lambda m: m.update(format_version=99), "format version 99, this program"),
    "no version": (lambda m: m.pop("format_version"), "format version None"),
    "other format": (lambda m: m.update(format="zip"), "not a ROM image of this program"),
    "no files": (lambda m: m.pop("files"), "no list of matrices or files"),
    "file is text": (lambda m: m.update(files=["a"]), "malformed file entry"),
    "traversal": (lambda m: m["files"][0].update(file="../a"), "is not a plain file name"),
    "absolute": (lambda m: m["files"][0].update(file="/etc/passwd"), "is not a plain file name"),
    "no matrix": (lambda m: m["matrices"].pop("layers.1.v"), "matrix layers.1.v is missing"),
    "bits": (lambda m: m["matrices"]["layers.1.v"].update(bits=5), "has codes of 5 bits"),
    "group": (lambda m: m["matrices"]["layers.1.v"].update(group=48), "has groups of 48 columns"),
    "other bits": (lambda m: m["matrices"]["layers.1.v"].update(bits=4), "layers.1.v.codes is"),
    "model is text": (lambda m: m.update(model="llama"), "does not have the expected keys"),
    "model key": (lambda m: m["model"].pop("heads"), "does not have the expected keys"),
    "model value": (lambda m: m["model"].update(heads=0), "heads must be a whole number"),
    "other shape": (lambda m: m["model"].update(ffn=128), "layers.0.gate.codes is"),
}


@pytest.mark.parametrize(("change", "message"), MANIFESTS.values(), ids=MANIFESTS)
def test_manifest(image, change, message):
    edit(image, change)
    refused(ImageError, message, lambda: open_image(image))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_manifest_that_is_not_json(image, text):
    (image / "rom.json").write_bytes(text)
    refused(ImageError, r"rom\.json: (damaged|not a ROM image)", lambda: open_image(image))


def test_no_image(image):
    """No rom.json, no folder, a file."""
    (image / "rom.json").unlink()
    for path in (image, image / "none"):
        refused(ImageError, r"not a ROM image: no rom\.json", lambda p=path: open_image(p))
    refused(ImageError, "cannot be read", lambda: open_image(image / "tokenizer.json"))

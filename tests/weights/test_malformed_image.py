"""Damaged and foreign ROM images: each ends in one line of the right error."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from emulator.errors import ImageError
from tests.support.refusals import refused
from tests.support.tiny_model import edit_manifest
from weights.checkpoint import file_record
from weights.rom import RomImage, open_image


@pytest.fixture
def image(tmp_path: Path, tiny_image: RomImage) -> Path:
    """A copy of the tiny image to break."""
    return Path(shutil.copytree(tiny_image.folder, tmp_path / "image"))


SHARD, TABLES = "layer-001.safetensors", "tables.safetensors"


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


@pytest.mark.parametrize("name", ["rom.json", "tokenizer.json", SHARD])
@pytest.mark.parametrize("check_hashes", [True, False])
def test_symlink(image, name, check_hashes):
    """A file that is a link is refused, even to the same bytes, hashes or not."""
    (image / name).rename(image.parent / name)
    (image / name).symlink_to(image.parent / name)
    refused(ImageError, f"{name}.* a link", lambda: open_image(image, check_hashes))


def test_pipe(image):
    """A pipe in a file's place would be read for ever."""
    for name in ("rom.json", "tokenizer.json"):
        shutil.move(image / name, image.parent / name)
        os.mkfifo(image / name)
        refused(ImageError, f"{name}.* a link", lambda: open_image(image))
        shutil.move(image.parent / name, image / name)


V = "layers.1.v"
MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "future version": (lambda m: m.update(format_version=99), "format version 99, this program"),
    "no version": (lambda m: m.pop("format_version"), "format version None"),
    "other format": (lambda m: m.update(format="zip"), "not a ROM image of this program"),
    "no files": (lambda m: m.pop("files"), "lacks 'files'"),
    "no matrices": (lambda m: m.pop("matrices"), "lacks 'matrices'"),
    "no chat style": (lambda m: m.pop("chat_style"), "lacks 'chat_style'"),
    "mix is a list": (lambda m: m.update(mix=[3]), r"mix must be text, not \[3\]"),
    "no provenance": (lambda m: m.pop("checkpoint"), "lacks 'checkpoint'"),
    "nameless": (lambda m: m["checkpoint"].update(name=None), "checkpoint: name must be text"),
    "no source": (lambda m: m["checkpoint"].pop("files"), "files must be a list of .name, bytes"),
    "half a source": (lambda m: m["checkpoint"]["files"][0].pop(), "files must be a list of .name"),
    "file is text": (lambda m: m.update(files=["a"]), "files must be a list of objects"),
    "no tokenizer": (lambda m: unlist(m, "tokenizer.json"), "does not list tokenizer.json"),
    "no tables": (lambda m: unlist(m, "tables.safetensors"), "does not list tables.safetensors"),
    "no shard": (lambda m: unlist(m, SHARD), "layers.1.q: shard must be one of the image's files"),
    "no length": (lambda m: m["files"][0].pop("bytes"), r"files\[0\] lacks 'bytes'"),
    "no hash": (lambda m: m["files"][1].update(sha256=None), r"files\[1\]: sha256 must be text"),
    "no matrix": (lambda m: m["matrices"].pop(V), f"lacks '{V}'"),
    "matrix is text": (lambda m: m["matrices"].update({V: "a"}), f"{V} must be an object"),
    "shard is a list": (lambda m: m["matrices"][V].update(shard=[]), "shard must be text"),
    "bits": (lambda m: m["matrices"][V].update(bits=5), "bits must be one of 3, 4, 6, not 5"),
    "bits is a list": (lambda m: m["matrices"][V].update(bits=[]), "bits must be a whole number"),
    "bits is 3.0": (lambda m: m["matrices"]["layers.1.q"].update(bits=3.0), "bits must be a whole"),
    "group": (lambda m: m["matrices"][V].update(group=48), "group must be a multiple of 32"),
    "group is true": (lambda m: m["matrices"][V].update(group=True), "group must be a whole"),
    "other bits": (lambda m: m["matrices"][V].update(bits=4), "layers.1.v.codes is"),
    "no model": (lambda m: m.pop("model"), "lacks 'model'"),
    "model is text": (lambda m: m.update(model="llama"), "model must be an object"),
    "model key": (lambda m: m["model"].pop("heads"), "model lacks 'heads'"),
    "unknown model key": (lambda m: m["model"].update(hue=3), "model has an unknown key 'hue'"),
    "model value": (lambda m: m["model"].update(heads=0), "heads must be a whole number"),
    "tied is text": (lambda m: m["model"].update(tied="no"), "tied must be true or false"),
    "end ids": (lambda m: m["model"].update(end_ids=[True]), "end_ids must be whole numbers"),
    "scaling": (lambda m: m["model"].update(rope_scaling={}), "rope_scaling lacks 'factor'"),
    "huge epsilon": (
        lambda m: m["model"].update(rms_epsilon=1e300),
        "rms_epsilon must be a number",
    ),
    "no epsilon": (lambda m: m["model"].update(rms_epsilon=0), "rms_epsilon must be a number"),
    "short context": (lambda m: m["model"].update(context=8), "rotary tables of 64 positions"),
    "ffn of 65536": (lambda m: m["model"].update(ffn=65536), "Hadamard transform of 65536 values"),
    "other shape": (lambda m: m["model"].update(ffn=128), "layers.0.gate.codes is"),
    "no gain exponent": (lambda m: m.pop("final_gain_exponent"), "lacks 'final_gain_exponent'"),
    "gain exponent is text": (lambda m: m.update(final_gain_exponent="x"), "from -16 to 64"),
    "gain exponent far out": (lambda m: m.update(final_gain_exponent=-(10**9)), "from -16 to 64"),
    "line break": (lambda m: m["model"].update({"a\nb": 1}), "unknown key"),
}


def unlist(manifest: dict[str, Any], file: str) -> None:
    """Take a file out of the manifest's list; it stays on disk."""
    manifest["files"] = [f for f in manifest["files"] if f["file"] != file]


@pytest.mark.parametrize(("change", "message"), MANIFESTS.values(), ids=MANIFESTS)
def test_manifest(image, change, message):
    edit_manifest(image, change)
    refused(ImageError, message, lambda: open_image(image))


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "..", "", "a/b", "a\0b", "\ud800", "a" * 5000, 3, None]
)
@pytest.mark.parametrize("check_hashes", [True, False])
def test_names(image, name, check_hashes):
    """Names are checked even when hashes are not; the file that a traversal names exists."""
    shutil.copy(image / SHARD, image.parent / "outside")
    edit_manifest(image, lambda m: m["files"].append({**m["files"][0], "file": name}))
    message = r"files\[4\]: file must be a plain file name"
    refused(ImageError, message, lambda: open_image(image, check_hashes))


ARRAYS: dict[str, tuple[str, str, Callable[[np.ndarray], Any], str]] = {
    "row exponent": (
        SHARD,
        f"{V}.row_exponent",
        lambda a: a - 100,
        "row_exponent holds -.*, below",
    ),
    "row mantissa": (
        SHARD,
        f"{V}.row_mantissa",
        lambda a: a >> 1,
        "row_mantissa holds values other",
    ),
    "alphabet": (
        SHARD,
        f"{V}.alphabet",
        lambda a: a - a - 65,
        r"alphabet holds levels beyond \+-64",
    ),
    "mixer": (TABLES, "residual_mixer", lambda a: a + 100, "residual_mixer is no rotation"),
    "no mixer": (TABLES, "residual_mixer", lambda a: a[:0], "residual_mixer is int16"),
    "no positions": (TABLES, "rope_sine", lambda a: a[:0], "rotary tables differ in length"),
}


@pytest.mark.parametrize(("file", "name", "change", "message"), ARRAYS.values(), ids=ARRAYS)
def test_array(image, file, name, change, message):
    """Values that would leave the datapath's widths; a manifest that is honest about them."""
    arrays = load_file(image / file)
    arrays[name] = np.ascontiguousarray(change(arrays[name]), arrays[name].dtype)
    save_file(arrays, image / file)
    _, length, digest = file_record(image / file)
    for entry in json.loads((image / "rom.json").read_text())["files"]:
        if entry["file"] == file:
            new = {"file": file, "bytes": length, "sha256": digest}
            edit_manifest(
                image, lambda m, e=entry, n=new: m["files"].__setitem__(m["files"].index(e), n)
            )
    refused(ImageError, f"{file}: .*{message}", lambda: open_image(image))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_manifest_that_is_not_json(image, text):
    (image / "rom.json").write_bytes(text)
    refused(ImageError, r"rom\.json: (not JSON|does not hold an object)", lambda: open_image(image))


def test_no_image(image):
    """No rom.json, no folder, a file."""
    (image / "rom.json").unlink()
    for path in (image, image / "none"):
        refused(ImageError, r"not a ROM image: no rom\.json", lambda p=path: open_image(p))
    refused(ImageError, "cannot be read", lambda: open_image(image / "tokenizer.json"))

"""The ROM image: a folder with `rom.json` and memory-mapped, hashed shards.

    rom.json              shape, mix, rotation, provenance, matrices, files with SHA-256
    tokenizer.json        as the checkpoint has it
    tables.safetensors    embedding, head of an untied model, final gain, rotary tables
    layer-000.safetensors q, k, v, o, gate, up, down of layer 0; and so on

Each matrix NAME is stored as NAME.codes, .group_scale, .row_mantissa, .row_exponent and
.alphabet, in the layout of `kernels.pack`. docs/rom-image.md is the format's contract;
`weights.rom_writer` writes it.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.errors import EmulatorError, ImageError
from emulator.model import LlamaConfig
from kernels.pack import CODE_BITS, TILE_BYTES, PackedMatrix, row_tiles
from weights.checkpoint import LAYER_MATRICES, sha256_file, tensor_shape
from weights.safetensors_file import SafetensorsFile

FORMAT = "hardwired-rom"
FORMAT_VERSION = 2
MANIFEST = "rom.json"
TOKENIZER = "tokenizer.json"

ARRAYS = ("codes", "group_scale", "row_mantissa", "row_exponent", "alphabet")
MAX_MANIFEST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class RomImage:
    """An opened image; matrices are views of mapped files."""

    folder: Path
    manifest: dict[str, Any]
    config: LlamaConfig
    tokenizer_json: str
    matrices: dict[str, PackedMatrix]  # "embedding", "head", "layers.0.q", ..
    vectors: dict[str, NDArray[Any]]  # "final_gain", "rope_cosine", "rope_sine"

    @property
    def context(self) -> int:
        """Positions of the rotary tables, and so of the KV SRAM."""
        return int(self.vectors["rope_cosine"].shape[0])

    @property
    def bits_per_weight(self) -> float:
        """All stored bits of weights, scales, alphabets and gains over the model's parameters."""
        bits = sum(m.stored_bits for m in self.matrices.values())
        gain = self.vectors.get("final_gain")
        return (bits + (8 * gain.nbytes if gain is not None else 0)) / self.config.parameters

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        return sum(int(file["bytes"]) for file in self.manifest["files"])


def open_image(folder: Path, check_hashes: bool = True) -> RomImage:
    """Open an image, with every claim of its manifest checked against the files.

    Raises ImageError with one line that names the file and what to do.
    """
    manifest = _read_manifest(folder)
    if check_hashes:
        _check_files(folder, manifest)
    try:
        config = LlamaConfig.from_json(manifest["model"])
    except EmulatorError as error:
        raise ImageError(f"{folder / MANIFEST}: {error}") from None
    names = [entry["file"] for entry in manifest["files"] if entry["file"] != TOKENIZER]
    shards = {name: SafetensorsFile(folder / name, ImageError) for name in names}
    matrices = {}
    for name, shape in expected_matrices(config).items():
        entry = manifest["matrices"].get(name)
        if not isinstance(entry, dict) or entry.get("shard") not in shards:
            raise ImageError(f"{folder / MANIFEST}: matrix {name} is missing")
        matrices[name] = _matrix(shards[entry["shard"]], name, shape, entry)
    vectors = _vectors(shards["tables.safetensors"], config) if "tables.safetensors" in shards else {}
    if "rope_cosine" not in vectors:
        raise ImageError(f"{folder}: the rotary tables are missing")
    try:
        tokenizer_json = (folder / TOKENIZER).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ImageError(f"{folder / TOKENIZER}: cannot be read: {error}") from None
    return RomImage(folder, manifest, config, tokenizer_json, matrices, vectors)


def expected_matrices(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every matrix that an image of this model holds."""
    shapes = {"embedding": tensor_shape(config, "embedding")}
    if not config.tied:
        shapes["head"] = tensor_shape(config, "head")
    for layer in range(config.layers):
        for name in LAYER_MATRICES:
            shapes[f"layers.{layer}.{name}"] = tensor_shape(config, name)
    return shapes


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ImageError(f"{path}: larger than {MAX_MANIFEST_BYTES >> 20} MiB")
        manifest = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ImageError(f"{folder}: not a ROM image: no {MANIFEST}") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{path}: damaged: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ImageError(f"{path}: not a ROM image of this program")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise ImageError(
            f"{path}: format version {version!r}, this program reads {FORMAT_VERSION}; "
            "compile the image again or update the program"
        )
    if not isinstance(manifest.get("matrices"), dict) or not isinstance(manifest.get("files"), list):
        raise ImageError(f"{path}: damaged: no list of matrices or files")
    return manifest


def _check_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Compare every file's length and hash with the manifest; two files at a time."""

    def check(entry: Any) -> None:
        if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
            raise ImageError(f"{folder / MANIFEST}: damaged: a malformed file entry")
        name = entry["file"]
        path = folder / name
        if Path(name).name != name or path.is_symlink():
            raise ImageError(f"{folder / MANIFEST}: {name!r} is not a plain file name")
        try:
            size = path.stat().st_size
            if size != entry.get("bytes"):
                raise ImageError(f"{path}: {size} bytes instead of {entry.get('bytes')}; {AGAIN}")
            if sha256_file(path) != entry.get("sha256"):
                raise ImageError(f"{path}: its content has changed (SHA-256 differs); {AGAIN}")
        except FileNotFoundError:
            raise ImageError(f"{path}: missing; {AGAIN}") from None
        except OSError as error:
            raise ImageError(f"{path}: cannot be read: {error.strerror}") from None

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(check, manifest["files"]))


AGAIN = "delete the image and compile it again"


def _matrix(
    shard: SafetensorsFile, name: str, shape: tuple[int, ...], entry: dict[str, Any]
) -> PackedMatrix:
    rows, columns = shape
    bits, group = entry.get("bits"), entry.get("group")
    if bits not in CODE_BITS:
        raise ImageError(f"{shard.path}: matrix {name} has codes of {bits!r} bits")
    if not isinstance(group, int) or group < 32 or group % 32 or columns % group:
        raise ImageError(f"{shard.path}: matrix {name} has groups of {group!r} columns")
    tiles = row_tiles(rows)
    layout = {
        "codes": (np.uint8, (tiles, columns // 32, TILE_BYTES[bits])),
        "group_scale": (np.uint8, (tiles, columns // group, 8)),
        "row_mantissa": (np.uint16, (rows,)),
        "row_exponent": (np.int8, (rows,)),
        "alphabet": (np.int8, (1 << bits,)),
    }
    arrays = {}
    for part, (kind, expected) in layout.items():
        arrays[part] = _array(shard, f"{name}.{part}", kind, expected)
    return PackedMatrix(rows, columns, bits, group, **arrays)


def _vectors(shard: SafetensorsFile, config: LlamaConfig) -> dict[str, NDArray[Any]]:
    half = config.head_dim // 2
    vectors = {}
    for name in ("rope_cosine", "rope_sine"):
        vectors[name] = _array(shard, name, np.int16, (None, half))
    if vectors["rope_cosine"].shape != vectors["rope_sine"].shape:
        raise ImageError(f"{shard.path}: the rotary tables differ in length")
    if config.tied:
        vectors["final_gain"] = _array(shard, "final_gain", np.int16, (config.hidden,))
    return vectors


def _array(
    shard: SafetensorsFile, name: str, kind: Any, shape: tuple[int | None, ...]
) -> NDArray[Any]:
    if name not in shard.names:
        raise ImageError(f"{shard.path}: {name} is missing; {AGAIN}")
    array = shard.view(name)
    fits = array.ndim == len(shape) and all(
        n in (None, size) for n, size in zip(shape, array.shape, strict=True)
    )
    if array.dtype != kind or not fits:
        raise ImageError(f"{shard.path}: {name} is {array.dtype}{list(array.shape)}; {AGAIN}")
    return array

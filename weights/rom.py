"""The ROM image: a folder with `rom.json` and memory-mapped, hashed shards.

    rom.json              shape, mix, rotation, provenance, matrices, SHA-256 of all files
    tokenizer.json        as the checkpoint has it
    tables.safetensors    embedding, head or final gain and mixer, rotary tables
    chat_template.jinja   as the checkpoint has it, if it speaks of tools
    NOTICE                the licence's, of a Llama
    layer-000.safetensors q, k, v, o, gate, up, down of layer 0, biases and head gains; and so on

Each matrix NAME is stored as NAME.codes, .group_scale, .row_mantissa, .row_exponent and
.alphabet, in the layout of `kernels.rom.pack`. docs/rom-image.md is the format's contract;
`weights.rom_writer` writes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.config import LlamaConfig
from emulator.errors import EmulatorError, ImageError
from emulator.fields import Fields
from emulator.fixedpoint import power_of_two_block
from kernels.reference import Q1_14
from kernels.rom.pack import MAX_GROUP, TILE_BYTES, PackedMatrix, fault, row_tiles
from kernels.rom.widths import CODE_BITS
from weights.checkpoint import LAYER_MATRICES, tensor_shape
from weights.layer_vectors import EXPONENTS, GAIN_EXPONENT, layout
from weights.rom_files import (
    AGAIN,
    FORMAT_VERSION,
    MANIFEST,
    NOTICE,
    SEAL,
    TABLES,
    TEMPLATE,
    TOKENIZER,
    checked_files,
    read_manifest,
)
from weights.safetensors_file import SafetensorsFile

__all__ = ["ARRAYS", "FORMAT_VERSION", "MANIFEST", "RomImage", "expected_matrices", "open_image"]

ARRAYS = ("codes", "group_scale", "row_mantissa", "row_exponent", "alphabet")
TEXTS = (TOKENIZER, TEMPLATE, NOTICE)  # files that are no shards


@dataclass(frozen=True, slots=True)
class RomImage:
    """An opened image; matrices are views of mapped files."""

    folder: Path
    manifest: dict[str, Any]
    config: LlamaConfig
    tokenizer_json: str
    matrices: dict[str, PackedMatrix]  # "embedding", "head", "layers.0.q", ..
    vectors: dict[str, NDArray[Any]]  # "final_gain", "rope_cosine", "layers.0.q_bias", ..
    chat_template: str = ""  # Jinja, if the checkpoint has one that speaks of tools

    @property
    def context(self) -> int:
        """Positions of the rotary tables, and so of the KV SRAM."""
        return int(self.vectors["rope_cosine"].shape[0])

    @property
    def bits_per_weight(self) -> float:
        """All stored bits of weights, scales, alphabets, biases and gains, by parameter."""
        bits = sum(m.stored_bits for m in self.matrices.values())
        learned = [v for n, v in self.vectors.items() if n == "final_gain" or "layers." in n]
        return (bits + sum(8 * vector.nbytes for vector in learned)) / self.config.parameters

    @property
    def digest(self) -> str:
        """Hex SHA-256 that the manifest carries of itself: it stands for every byte."""
        return str(self.manifest[SEAL])

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        return sum(int(file["bytes"]) for file in self.manifest["files"])


def open_image(folder: Path | str, check_hashes: bool = True) -> RomImage:
    """Open an image, with every claim of its manifest checked against the files.

    Raises ImageError with one line that names the file and what to do.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    names = checked_files(folder, manifest, check_hashes)
    try:
        config = LlamaConfig.from_json(manifest.object("model").values)
    except EmulatorError as error:
        raise ImageError(f"{folder / MANIFEST}: {error}") from None
    shards = {n: SafetensorsFile(folder / n, ImageError) for n in names if n not in TEXTS}
    entries = manifest.object("matrices")
    matrices = {
        name: _matrix(shards, entries.object(name), name, shape)
        for name, shape in expected_matrices(config).items()
    }
    if config.tied:
        manifest.whole("final_gain_exponent", *GAIN_EXPONENT)
    vectors = _vectors(shards[TABLES], config)
    for layer in range(config.layers):
        shard = shards[entries.object(f"layers.{layer}.q").text("shard")]
        vectors |= _layer_vectors(shard, config, layer)
    texts = {name: _text(folder / name) for name in (TOKENIZER, TEMPLATE) if name in names}
    return RomImage(
        folder,
        dict(manifest.values),
        config,
        texts[TOKENIZER],
        matrices,
        vectors,
        texts.get(TEMPLATE, ""),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: cannot be read: {error}") from None


def expected_matrices(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every matrix that an image of this model holds."""
    shapes = {"embedding": tensor_shape(config, "embedding")}
    if not config.tied:
        shapes["head"] = tensor_shape(config, "head")
    for layer in range(config.layers):
        for name in LAYER_MATRICES:
            shapes[f"layers.{layer}.{name}"] = tensor_shape(config, name)
    return shapes


def _matrix(
    shards: dict[str, SafetensorsFile], entry: Fields, name: str, shape: tuple[int, ...]
) -> PackedMatrix:
    rows, columns = shape
    if (file := entry.text("shard")) not in shards:
        entry.refuse("shard", "one of the image's files")
    if (bits := entry.whole("bits", min(CODE_BITS), max(CODE_BITS))) not in CODE_BITS:
        entry.refuse("bits", f"one of {', '.join(map(str, CODE_BITS))}")
    group = entry.whole("group", 32, min(columns, MAX_GROUP))
    if group % 32 or columns % group:
        entry.refuse("group", f"a multiple of 32 that divides {columns}")
    tiles, shard = row_tiles(rows), shards[file]
    layout = {
        "codes": (np.uint8, (tiles, columns // 32, TILE_BYTES[bits])),
        "group_scale": (np.int8, (tiles, columns // group, 8)),
        "row_mantissa": (np.uint16, (rows,)),
        "row_exponent": (np.int8, (rows,)),
        "alphabet": (np.int8, (1 << bits,)),
    }
    arrays = {}
    for part, (kind, expected) in layout.items():
        arrays[part] = _array(shard, f"{name}.{part}", kind, expected)
    matrix = PackedMatrix(rows, columns, bits, group, **arrays)
    if problem := fault(matrix):
        raise ImageError(f"{shard.path}: {name}.{problem}; {AGAIN}")
    return matrix


def _vectors(shard: SafetensorsFile, config: LlamaConfig) -> dict[str, NDArray[Any]]:
    half = config.turning // 2
    vectors = {}
    for name in ("rope_cosine", "rope_sine"):
        vectors[name] = _array(shard, name, np.int16, (None, half))
    positions = len(vectors["rope_cosine"])
    if positions != len(vectors["rope_sine"]):
        raise ImageError(f"{shard.path}: the rotary tables differ in length; {AGAIN}")
    if not 1 <= positions <= config.context:
        raise ImageError(
            f"{shard.path}: rotary tables of {positions} positions, "
            f"not 1 to {config.context}; {AGAIN}"
        )
    if config.tied:
        vectors["final_gain"] = _array(shard, "final_gain", np.int16, (config.hidden,))
        block = power_of_two_block(config.hidden)
        m = config.hidden // block
        mixer = vectors["residual_mixer"] = _array(shard, "residual_mixer", np.int16, (m, m))
        # Rows of length 1, to within the rounding of m <= 2047 entries: two rotations with one
        # Hadamard transform each then stay within sqrt(hidden * block) * 2**15 <= 2**30.
        squares = np.square(mixer.astype(np.int64)).sum(axis=1)
        if (np.abs(squares - (1 << 2 * Q1_14)) > 1 << 20).any():
            raise ImageError(f"{shard.path}: residual_mixer is no rotation; {AGAIN}")
    return vectors


def _layer_vectors(
    shard: SafetensorsFile, config: LlamaConfig, layer: int
) -> dict[str, NDArray[Any]]:
    """Biases and head gains of a layer, from the shard that holds its matrices."""
    vectors = {}
    for short, (kind, shape) in layout(config).items():
        name = f"layers.{layer}.{short}"
        vector = vectors[name] = _array(shard, name, kind, shape)
        low, high = GAIN_EXPONENT
        if short == EXPONENTS and ((vector < low) | (vector > high)).any():
            raise ImageError(f"{shard.path}: {name} is not within {low} to {high}; {AGAIN}")
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

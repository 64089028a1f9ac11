"""A ROM image with the shape of Llama 3.1 8B and random codes, made in seconds.

Speed does not depend on what the codes say, so this stands for the real model wherever only time
and memory are measured. 3-bit codes in groups of 32, embedding and head at 6 bits.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from emulator.config import LlamaConfig
from emulator.fixedpoint import scale_of
from kernels.rom.pack import TILE_BYTES, PackedMatrix, row_tiles
from weights.quantize import alphabet
from weights.rom import expected_matrices
from weights.rom_writer import new_image
from weights.rope_table import rope_tables

GROUP = 32
CONTEXT = 4352  # 4,096 and some


def config_8b(layers: int = 32, vocabulary: int = 128256) -> LlamaConfig:
    return LlamaConfig(
        hidden=4096,
        layers=layers,
        heads=32,
        kv_heads=8,
        head_dim=128,
        ffn=14336,
        vocabulary=vocabulary,
        context=CONTEXT,
        rms_epsilon=1e-5,
        rope_theta=500000.0,
        rope_scaling=None,
        tied=False,
        bos_id=None,
        end_ids=(),
    )


def random_matrix(rng: np.random.Generator, rows: int, columns: int, bits: int) -> PackedMatrix:
    """Random codes and group scales; outputs about as large as inputs."""
    tiles, levels = row_tiles(rows), alphabet(bits)
    deviation = float(np.std(levels)) * 97  # root mean square of a scale
    mantissa, exponent = scale_of(1 / (deviation * math.sqrt(columns)))
    codes = np.frombuffer(rng.bytes(tiles * columns // 32 * TILE_BYTES[bits]), np.uint8)
    scales = np.frombuffer(rng.bytes(tiles * columns // GROUP * 8), np.uint8) & 63 | 64
    return PackedMatrix(
        rows,
        columns,
        bits,
        GROUP,
        codes.reshape(tiles, columns // 32, -1),
        scales.view(np.int8).reshape(tiles, columns // GROUP, 8),
        np.full(rows, mantissa, np.uint16),
        np.full(rows, exponent, np.int8),
        levels,
    )


def write_8b(folder: Path, layers: int = 32, vocabulary: int = 128256) -> Path:
    """Write the image and return its folder. Each layer has codes of its own, on its own pages."""
    config = config_8b(layers, vocabulary)
    rng = np.random.default_rng(8)
    shapes = expected_matrices(config)
    cosine, sine = rope_tables(config, CONTEXT)
    with new_image(folder) as writer:
        tables = {name: random_matrix(rng, *shapes[name], 6) for name in ("embedding", "head")}
        writer.add_shard("tables.safetensors", tables, {"rope_cosine": cosine, "rope_sine": sine})
        for layer in range(layers):
            stem = f"layers.{layer}."
            matrices = {
                name: random_matrix(rng, *shape, 3)
                for name, shape in shapes.items()
                if name.startswith(stem)
            }
            writer.add_shard(f"layer-{layer:03}.safetensors", matrices)
        manifest = {
            "model": config.to_json(),
            "tool": "benchmarks",
            "mix": "3,embedding=6,head=6",
            "chat_style": "llama3",
            "rotation": {"seed": 1},
            "checkpoint": {"name": "random codes", "license": "none", "files": []},
        }
        writer.finish("{}", manifest)
    return folder

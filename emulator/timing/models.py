"""Models whose shape is known without a checkpoint, and a chip of that shape with blank masks.

Time depends on shapes alone, so the blocks of a blank chip cost what those of a real one do. Its
matrices know their shape and hold no codes, so nothing can be computed with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emulator.blocks.kv_sram import KvSram
from emulator.chip import Stage, build_stages
from emulator.config import LlamaConfig
from emulator.errors import UsageError
from emulator.fixedpoint import power_of_two_block
from emulator.silicon.spec import ChipSpec
from emulator.timing.known_models import MODELS
from kernels.rom.pack import PackedMatrix
from kernels.rom.widths import WIDTHS
from kernels.sram_matrix import SramMatrix, empty_cells
from weights.checkpoint import LAYER_MATRICES, tensor_shape
from weights.layer_vectors import layout
from weights.mix import Mix
from weights.rom import RomImage, expected_matrices

__all__ = ["HC1_MIX", "MODELS", "blank_stages", "known_model", "kv_sram_bits", "rom_bits"]

HC1_MIX = "3,embedding=6,head=6"  # 3 and 6 bits are official, which tensor has which is not


def known_model(name: str) -> LlamaConfig:
    """Raises UsageError with the known names."""
    if name not in MODELS:
        raise UsageError(f"--model {name}: the known shapes are {', '.join(MODELS)}")
    return MODELS[name]


def blank_stages(
    config: LlamaConfig, mix: Mix, ranks: Mapping[str, int] | None = None
) -> list[Stage]:
    """The blocks of a chip with this model, as `build_stages` makes them, with blank masks.

    Layers with the same code widths, window and rotation share one set of blocks, so that a
    schedule computes it once. `ranks` are those of an adapter, by matrix.
    """
    embedding, _, head = _one_layer(config, 0, mix, ranks)
    layers = []
    known: dict[tuple[object, ...], Stage] = {}
    for i in range(config.layers):
        widths = {name: mix.bits(name, i) for name in LAYER_MATRICES}
        key = (*widths.values(), config.window_of(i), i in config.unrotated)
        if key not in known:
            known[key] = _one_layer(config, i, Mix(mix.text, mix.base, widths), ranks)[1]
        layers.append(replace(known[key], name=f"layer {i}", layer=i))
    return [embedding, *layers, head]


def _one_layer(
    config: LlamaConfig, layer: int, mix: Mix, ranks: Mapping[str, int] | None
) -> list[Stage]:
    """Embedding, one layer that is like layer `layer`, and head."""
    window = config.window_of(layer)
    alone = replace(
        config,
        layers=1,
        window=window,
        windowed=(0,) if window else (),
        unrotated=(0,) if layer in config.unrotated else (),
    )
    side = {}
    for name, rank in (ranks or {}).items():
        rows, columns = tensor_shape(config, name)
        side[f"layers.0.{name}"] = _blank_side(rows, columns, rank)
    return build_stages(_blank_image(alone, mix), context=1, side=side)


def rom_bits(config: LlamaConfig, mix: Mix, positions: int) -> int:
    """Bits in the masks: matrices with scales, biases, gains, rotary tables."""
    rotary = 2 * 16 * positions * (config.turning // 2)
    image = _blank_image(config, mix)
    matrices = sum(matrix.stored_bits for matrix in image.matrices.values())
    learned = sum(8 * vector.nbytes for name, vector in image.vectors.items() if "layers." in name)
    return matrices + learned + rotary + (16 * config.hidden if config.tied else 0)


def kv_sram_bits(config: LlamaConfig, spec: ChipSpec) -> int:
    """Keys, values and their scales, for all positions of the chip, or of a layer's window."""
    position, most = 2 * KvSram.of(config, 1).position_bits(spec), int(spec.kv_sram.positions)
    held = [min(config.window_of(i) or most, most) for i in range(config.layers)]
    return position * sum(held)


def _blank_image(config: LlamaConfig, mix: Mix) -> RomImage:
    matrices = {
        name: _blank_matrix(rows, columns, _bits(mix, name))
        for name, (rows, columns) in expected_matrices(config).items()
    }
    rotary = np.zeros((1, config.turning // 2), np.int16)
    vectors: dict[str, NDArray] = {"rope_cosine": rotary, "rope_sine": rotary}
    for name, (kind, shape) in layout(config).items():
        vectors |= {f"layers.{i}.{name}": np.zeros(shape, kind) for i in range(config.layers)}
    if config.tied:
        blocks = config.hidden // power_of_two_block(config.hidden)
        vectors["final_gain"] = np.zeros(config.hidden, np.int16)
        vectors["residual_mixer"] = np.zeros((blocks, blocks), np.int16)
    return RomImage(Path(), {"final_gain_exponent": 0}, config, "", matrices, vectors)


def _bits(mix: Mix, name: str) -> int:
    """Of a matrix by its name in an image: "embedding", "layers.3.q"."""
    *_, layer, matrix = ("", *name.split("."))
    return mix.bits(matrix, int(layer) if layer else None)


def _blank_matrix(rows: int, columns: int, bits: int) -> PackedMatrix:
    return PackedMatrix(
        rows,
        columns,
        bits,
        WIDTHS[bits].group,
        codes=np.zeros(0, np.uint8),
        group_scale=np.zeros(0, np.int8),
        row_mantissa=np.zeros(0, np.uint16),
        row_exponent=np.zeros(0, np.int8),
        alphabet=np.zeros(1 << bits, np.int8),
    )


def _blank_side(rows: int, columns: int, rank: int) -> SramMatrix:
    return SramMatrix(
        np.zeros((rank, columns), np.int8),
        np.zeros((rank, rows), np.int8),
        np.zeros(rows, np.uint16),
        np.zeros(rows, np.int8),
        row_mantissa=np.zeros(rows, np.uint16),
        row_exponent=np.zeros(rows, np.int8),
        **empty_cells(),
    )

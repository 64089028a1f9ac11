"""Checkpoint -> ROM image: fold, rotate, quantise, pack and write, one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emulator import __version__
from emulator.errors import UsageError
from emulator.fixedpoint import power_of_two_block
from weights.checkpoint import LAYER_MATRICES, Checkpoint
from weights.fold import Folder
from weights.mix import Mix
from weights.quantize import quantise
from weights.rom import FORMAT_VERSION, GAIN_EXPONENT
from weights.rom_writer import ImageWriter, new_image
from weights.rope_table import rope_tables
from weights.rotate import mixer

DEFAULT_MIX = "6"
DEFAULT_CONTEXT = 8192  # positions, where the checkpoint has more
ROTATION_SEED = 1
RECIPE = 2  # up by one with every change after which the same input gives other bytes
Progress = Callable[[int, int], None]  # (matrices done, matrices in all), first with 0 done


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What decides the bits of an image, beside the checkpoint."""

    mix: Mix
    context: int  # positions of the rotary tables and the KV SRAM


def recipe_tag(mix: str) -> str:
    """Part of a cached image's name: with it changes what this program makes of a checkpoint."""
    return f"{mix.replace(' ', '')}-v{FORMAT_VERSION}.{RECIPE}"


def compile_image(
    source: Checkpoint, folder: Path, options: CompileOptions, progress: Progress | None = None
) -> None:
    """Write the ROM image of `source` to `folder`. Peak memory is that of its largest tensor.

    Raises CheckpointError, UnsupportedError, UsageError or ImageError; nothing half-written stays.
    """
    config = source.config
    if not 1 <= options.context <= config.context:
        raise UsageError(f"the model has positions 1 to {config.context}, not {options.context}")
    folder_of = Folder(source, ROTATION_SEED)
    with new_image(folder) as writer:
        matrices_in_all = len(LAYER_MATRICES) * config.layers + (1 if config.tied else 2)
        steps = _Steps(matrices_in_all, progress)
        _tables(folder_of, writer, options, steps)
        for layer in range(config.layers):
            matrices = {}
            for name in LAYER_MATRICES:
                w = folder_of.layer_matrix(name, layer)
                matrices[f"layers.{layer}.{name}"] = quantise(w, options.mix.bits(name))
                steps.advance()
            writer.add_shard(f"layer-{layer:03}.safetensors", matrices)
        writer.finish(source.tokenizer_json, _manifest(source, options))


def _tables(folder_of: Folder, writer: ImageWriter, options: CompileOptions, steps: _Steps) -> None:
    config = folder_of.source.config
    cosine, sine = rope_tables(config, options.context)
    vectors: dict[str, Any] = {"rope_cosine": cosine, "rope_sine": sine}
    matrices = {"embedding": quantise(folder_of.embedding(), options.mix.bits("embedding"))}
    steps.advance()
    if config.tied:
        vectors["final_gain"], _ = gain_codes(folder_of.final_gain())
        vectors["residual_mixer"] = mixer(config.hidden)
    else:
        matrices["head"] = quantise(folder_of.head(), options.mix.bits("head"))
        steps.advance()
    writer.add_shard("tables.safetensors", matrices, vectors)


def gain_codes(gain: np.ndarray) -> tuple[np.ndarray, int]:
    """A tied model's final gain as int16 and their shared exponent: gain ~ code * 2**-exponent."""
    largest = float(np.abs(gain).max())
    exponent = min(15 - int(np.frexp(largest)[1]), GAIN_EXPONENT[1]) if largest > 0 else 0
    codes = np.clip(np.rint(np.ldexp(gain.astype(np.float64), exponent)), -32767, 32767)
    return codes.astype(np.int16), exponent


def _manifest(source: Checkpoint, options: CompileOptions) -> dict[str, Any]:
    config = source.config
    manifest: dict[str, Any] = {
        "tool": f"hardwired-llama {__version__}",
        "model": config.to_json(),
        "mix": options.mix.text,
        "rotation": {
            "seed": ROTATION_SEED,
            "residual_block": power_of_two_block(config.hidden),
            "head_block": config.head_dim,
            "ffn_block": power_of_two_block(config.ffn),
        },
        "chat_style": source.chat_style,
        "checkpoint": asdict(source.provenance()),
    }
    if config.tied:
        manifest["final_gain_exponent"] = gain_codes(Folder(source, ROTATION_SEED).final_gain())[1]
    return manifest


class _Steps:
    """Counts matrices for a progress bar."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress
        self._tell()

    def advance(self) -> None:
        self._done += 1
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._done, self._total)

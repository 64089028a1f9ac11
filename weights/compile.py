"""Checkpoint -> ROM image: fold, rotate, quantise, pack and write, one tensor at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emulator import __version__
from emulator.config import LlamaConfig
from emulator.errors import UsageError
from emulator.fixedpoint import power_of_two_block
from kernels.rom.pack import PackedMatrix
from weights.calibrate import INPUT_OF, Calibrator, Collected, Moments, Signals
from weights.checkpoint import LAYER_MATRICES, Checkpoint, Provenance
from weights.fold import Fold
from weights.layer_vectors import GainCodes, gain_codes, stored
from weights.ldlq import DAMPING, Curvature
from weights.license import notice
from weights.mix import Mix
from weights.near import Near
from weights.passes import Away, masks_of, stacked, table_jobs
from weights.quantize import quantise
from weights.rom import FORMAT_VERSION
from weights.rom_files import TABLES
from weights.rom_writer import ImageWriter, new_image
from weights.rope_table import rope_tables
from weights.rotate import mixer
from weights.tokenizer_json import NO_TOKENIZER, check_tokenizer

DEFAULT_CONTEXT = 8192  # positions, if the checkpoint has more
ROTATION_SEED = 1
PROBE_BITS = 6  # of the masks that calibration text runs through
TIED_DAMPING = 0.3  # a tied table's errors also enter the residual stream, in any direction
QUANTISERS = {"fast": 0, "calibrated": 0, "best": 2}  # level -> rounds of refit and descent
RECIPE = 4  # goes up with every change that gives other bytes for the same input
Progress = Callable[[int, int], None]  # (matrices done, matrices in all), first with 0 done


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """The options that, with the checkpoint, determine the bits of an image."""

    mix: Mix
    context: int  # positions of the rotary tables and the KV SRAM
    quantiser: str = "fast"  # one of QUANTISERS; all but the first need a calibrator
    near: Near | None = None  # whose masks to stay near to; its mix and context are those above


def recipe_tag(options: CompileOptions) -> str:
    """The part of a cached image's name that tells how this program compiled it."""
    near = f"-{options.near.tag}" if options.near else ""
    return f"{options.mix.tag}-{options.quantiser}-v{FORMAT_VERSION}.{RECIPE}{near}"


def compile_image(
    source: Checkpoint,
    folder: Path | str,
    options: CompileOptions,
    progress: Progress | None = None,
    calibrator: Calibrator | None = None,
    executor: Executor | None = None,
) -> None:
    """Write the ROM image of `source` to `folder`. Peak memory is that of one layer in float32.

    The level `fast` rounds each weight by itself (`weights.quantize`). The others need a calibrator
    and quantise with error feedback every matrix that reads a signal (`weights.ldlq`).
    A killed or interrupted compile resumes after its last finished shard. A thread hashes the
    checkpoint meanwhile. With an executor its workers quantise, and the bytes are the same; the
    calibration text passes through the layers here.
    Raises CheckpointError, UnsupportedError, UsageError or ImageError; nothing half-written stays.
    """
    folder = Path(folder)
    config = source.config
    _check(config, options, calibrator, executor)
    if source.tokenizer_json != NO_TOKENIZER:
        check_tokenizer(source.tokenizer_json)
    folder_of = Fold(source, ROTATION_SEED)
    key = _key(source, options, calibrator)
    with new_image(folder, key) as writer, ThreadPoolExecutor(1) as thread:
        provenance = thread.submit(source.provenance)
        matrices_in_all = len(LAYER_MATRICES) * config.layers + (1 if config.tied else 2)
        steps = _Steps(matrices_in_all, progress)
        if calibrator is not None:
            calibrator.embed(quantise(folder_of.embedding(), PROBE_BITS))
        rounds = QUANTISERS[options.quantiser]
        away = Away(executor, folder_of, options.mix, rounds, writer, steps.advance)
        for layer in range(config.layers):
            if provenance.done():
                provenance.result()  # raises if the checkpoint is not what the hub states
            file = f"layer-{layer:03}.safetensors"
            vectors = stored(folder_of.layer_vectors(layer))
            if away.idle and writer.reuse(file):
                if calibrator is not None:  # the text must still pass through the layer
                    calibrator.layer(layer, _probe(folder_of.layer(layer)), vectors)
                steps.advance(len(LAYER_MATRICES))
                continue
            named = {f"layers.{layer}.{name}": vector for name, vector in vectors.items()}
            if executor is not None:
                inputs: dict[str, Collected] = {}
                if calibrator is not None:
                    probe = _probe(folder_of.layer(layer))
                    inputs = calibrator.layer(layer, probe, vectors, Signals)
                away.send(layer, file, inputs, named)
                continue
            weights = folder_of.layer(layer)
            costs = _layer_costs(layer, weights, vectors, calibrator)
            writer.add_shard(file, _masks(layer, weights, costs, options, steps), named)
            del weights, costs  # 1 GB of an 8B model, which the tables then need
        away.fetch_all()
        gain = gain_codes(folder_of.final_gain()) if config.tied else None
        if not writer.reuse(TABLES):
            _tables(folder_of, writer, options, steps, calibrator, gain, executor)
        manifest = _manifest(source, options, provenance.result(), gain)
        manifest["calibration"] = calibrator.provenance() if calibrator is not None else None
        text = notice(provenance.result(), source.chat_style)
        writer.finish(source.tokenizer_json, manifest, text, source.chat_template)


def _check(
    config: LlamaConfig,
    options: CompileOptions,
    calibrator: Calibrator | None,
    executor: Executor | None,
) -> None:
    if not 1 <= options.context <= config.context:
        raise UsageError(f"the model has positions 1 to {config.context}, not {options.context}")
    if options.quantiser not in QUANTISERS:
        raise UsageError(f"no quantiser {options.quantiser!r}; there are {', '.join(QUANTISERS)}")
    if (calibrator is None) != (options.quantiser == "fast"):
        raise ValueError(f"calibrator {calibrator}, but the quantiser is {options.quantiser}")
    if options.near is not None:
        if executor is not None:
            raise ValueError("masks near another image's are made in one process")
        options.near.check(config, _rotation(config))


def _key(source: Checkpoint, options: CompileOptions, calibrator: Calibrator | None) -> str:
    """16 hex digits: a hash of all that determines the image."""
    text = calibrator.provenance() if calibrator is not None else None
    values = (__version__, recipe_tag(options), options.mix.text, options.context, source.digest)
    return hashlib.sha256(json.dumps([*values, text]).encode()).hexdigest()[:16]


def _probe(weights: dict[str, np.ndarray]) -> dict[str, PackedMatrix]:
    """The masks of a layer that calibration text runs through."""
    return {name: quantise(w, PROBE_BITS) for name, w in weights.items()}


def _layer_costs(
    layer: int,
    weights: dict[str, np.ndarray],
    vectors: dict[str, np.ndarray],
    calibrator: Calibrator | None,
) -> dict[str, Curvature]:
    """The cost of errors in each fabric pass of a layer, by the pass's name."""
    if calibrator is None:
        return {}
    moments = calibrator.layer(layer, _probe(weights), vectors)
    return {name: Curvature.of(sums.value) for name, sums in moments.items()}


def _masks(
    layer: int,
    weights: dict[str, np.ndarray],
    costs: dict[str, Curvature],
    options: CompileOptions,
    steps: _Steps,
) -> dict[str, PackedMatrix]:
    """The masks of a layer's matrices, by their names in the image."""
    masks = {}
    for name, w in weights.items():
        place, cost = f"layers.{layer}.{name}", costs.get(INPUT_OF[name])
        masks[place] = _mask(place, w, options.mix.bits(name, layer), cost, options)
        steps.advance()
    return masks


def _mask(
    place: str, w: np.ndarray, bits: int, cost: Curvature | None, options: CompileOptions
) -> PackedMatrix:
    if options.near is not None:
        return options.near.masks(place, w, cost.h if cost is not None else None)
    return masks_of(w, bits, cost, QUANTISERS[options.quantiser])


def _tables(
    folder_of: Fold,
    writer: ImageWriter,
    options: CompileOptions,
    steps: _Steps,
    calibrator: Calibrator | None,
    gain: GainCodes | None,
    executor: Executor | None,
) -> None:
    config = folder_of.source.config
    cosine, sine = rope_tables(config, options.context)
    vectors: dict[str, Any] = {"rope_cosine": cosine, "rope_sine": sine}
    codes, exponent = gain or (None, 0)
    if config.tied:
        vectors |= {"final_gain": codes, "residual_mixer": mixer(config.hidden)}
    inputs: Collected | None = None
    if calibrator is not None:
        into = Moments if executor is None else Signals
        inputs = calibrator.head(codes, exponent, vectors.get("residual_mixer"), into)
    damping = TIED_DAMPING if config.tied else DAMPING
    rounds = QUANTISERS[options.quantiser]
    # A tied table is the head too; an untied embedding's errors have no cost that is known.
    reads = {"embedding": inputs if config.tied else None}
    reads |= {} if config.tied else {"head": inputs}
    matrices = {}
    for name, seen in reads.items():
        bits = options.mix.bits(name)
        if executor is not None:
            jobs = table_jobs(executor, folder_of, name, bits, rounds, seen, damping)
            matrices[name] = stacked(job.result() for job in jobs)
        else:
            cost = Curvature.of(seen.value, damping) if seen is not None else None
            w = folder_of.embedding() if name == "embedding" else folder_of.head()
            matrices[name] = _mask(name, w, bits, cost, options)
        steps.advance()
    writer.add_shard(TABLES, matrices, vectors)


def _manifest(
    source: Checkpoint,
    options: CompileOptions,
    provenance: Provenance,
    gain: GainCodes | None,
) -> dict[str, Any]:
    config = source.config
    manifest: dict[str, Any] = {
        "tool": f"hardwired-llama {__version__}",
        "model": config.to_json(),
        "mix": options.mix.text,
        "quantiser": options.quantiser,
        "rotation": _rotation(config),
        "chat_style": source.chat_style,
        "checkpoint": asdict(provenance),
    }
    if source.chat_instructions:
        manifest["chat_instructions"] = source.chat_instructions
    if gain is not None:
        manifest["final_gain_exponent"] = gain[1]
    if options.near is not None:
        manifest["near"] = {"image": options.near.image.digest, "price": options.near.price}
    return manifest


def _rotation(config: LlamaConfig) -> dict[str, int]:
    return {
        "seed": ROTATION_SEED,
        "residual_block": power_of_two_block(config.hidden),
        "head_block": power_of_two_block(config.head_dim),
        "ffn_block": power_of_two_block(config.ffn),
    }


class _Steps:
    """Counts matrices for a progress bar."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress
        self._tell()

    def advance(self, count: int = 1) -> None:
        self._done += count
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._done, self._total)

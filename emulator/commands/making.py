"""A checkpoint's image in the cache folder: its name, its default options, how it is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.commands.images import home, is_image

if TYPE_CHECKING:
    from emulator.model import LlamaConfig
    from emulator.quality.calibrate import ChipCalibrator
    from weights.checkpoint import Checkpoint
    from weights.compile import CompileOptions
    from weights.hub import Repository

HC1_MODEL, HC1_CONTEXT = "llama-3.1-8b", 6144  # positions that HC1 serves this model with


def default_context(config: LlamaConfig) -> int:
    """Positions of an image: of HC1 for the model that it holds, else at most DEFAULT_CONTEXT."""
    from emulator.timing.models import MODELS
    from weights.compile import DEFAULT_CONTEXT

    same = MODELS[HC1_MODEL]
    same = replace(config, hidden=same.hidden, layers=same.layers, ffn=same.ffn)
    most = HC1_CONTEXT if config == same else DEFAULT_CONTEXT
    return min(config.context, most)


def default_quantiser(config: LlamaConfig) -> str:
    """The best rung that an ordinary computer reaches within half an hour or so."""
    from weights.allocate import SMALL_PARAMETERS

    return "best" if config.parameters <= SMALL_PARAMETERS else "fast"


def default_options(config: LlamaConfig) -> CompileOptions:
    """How a checkpoint is compiled that a chat asks for."""
    from weights.allocate import default_mix
    from weights.compile import CompileOptions

    quantiser = default_quantiser(config)
    mix = default_mix(config, calibrated=quantiser != "fast")
    return CompileOptions(mix, default_context(config), quantiser)


def image_name(source: Checkpoint, options: CompileOptions, text: str = "") -> str:
    """Name of the image in the cache folder; `text` tells the calibration text, if not usual."""
    from weights.compile import recipe_tag

    return (
        f"{source.name}-{source.digest[:8]}-{recipe_tag(options)}"
        f"{text and f'-{text}'}-c{options.context}"
    )


def calibrator_for(
    source: Checkpoint, quantiser: str, text: Path | None = None
) -> ChipCalibrator | None:
    """What a rung needs beside the weights; see `calibrator_of`."""
    from emulator.quality.calibrate import calibrator_of

    return None if quantiser == "fast" else calibrator_of(source, text)


def make_image(
    source: Checkpoint, folder: Path, options: CompileOptions, calibrator: ChipCalibrator | None
) -> None:
    """Compile to `folder`, with a progress bar."""
    from emulator.commands.progress import progress
    from weights.compile import compile_image

    with progress("compiling the masks, once", "matrices") as show:
        compile_image(source, folder, options, show, calibrator)


def image_of(source: Checkpoint) -> Path:
    """The image that a chat gets of a checkpoint, compiled if it is not there yet."""
    options = default_options(source.config)
    folder = home() / image_name(source, options)
    if not is_image(folder):
        make_image(source, folder, options, calibrator_for(source, options.quantiser))
    return folder


def compiled(repository: Repository) -> list[Path]:
    """Images made from a hub repository, the latest first; of its commit, where one is named."""
    from emulator.errors import ImageError
    from weights.rom_files import MANIFEST, read_manifest

    found = []
    for folder in home().iterdir() if home().is_dir() else ():
        if folder.name.startswith(".") or not is_image(folder):
            continue
        try:
            made_of = read_manifest(folder).object("checkpoint").values
        except ImageError:
            continue
        commit = str(made_of.get("commit"))
        wanted = repository.revision == "main" or commit.startswith(repository.revision)
        if made_of.get("repository") == repository.name and wanted:
            found.append(folder)
    return sorted(found, key=lambda folder: (folder / MANIFEST).stat().st_mtime, reverse=True)

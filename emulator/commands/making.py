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
    from weights.mix import Mix

HC1_MODEL, HC1_CONTEXT = "llama-3.1-8b", 6144  # positions that HC1 serves this model with
CALIBRATED_PARAMETERS = 1_000_000_000  # above, running text through the model takes hours


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
    return "best" if config.parameters <= CALIBRATED_PARAMETERS else "fast"


def usual_mix(config: LlamaConfig, quantiser: str) -> Mix:
    """6 bits where a large model is only rounded, since 3 bits need calibration; else the usual."""
    from weights.allocate import default_mix
    from weights.mix import Mix

    large = config.parameters > CALIBRATED_PARAMETERS
    return Mix.parse("6") if large and quantiser == "fast" else default_mix(config)


def default_options(config: LlamaConfig) -> CompileOptions:
    """How a checkpoint is compiled that a chat asks for."""
    from weights.compile import CompileOptions

    quantiser = default_quantiser(config)
    return CompileOptions(usual_mix(config, quantiser), default_context(config), quantiser)


def image_name(source: Checkpoint, options: CompileOptions, text: str = "") -> str:
    """Name of the image in the cache folder; `text` tells the calibration text, if not usual."""
    from weights.compile import recipe_tag

    return (
        f"{source.name}-{source.digest[:8]}-{recipe_tag(options)}"
        f"{text and f'-{text}'}-c{options.context}"
    )


def make_image(
    source: Checkpoint, folder: Path, options: CompileOptions, calibrator: ChipCalibrator | None
) -> None:
    """Compile to `folder`, with a progress bar."""
    from emulator.commands.progress import progress
    from weights.compile import compile_image

    with progress("compiling the masks", "matrices") as show:
        compile_image(source, folder, options, show, calibrator)


def image_of(source: Checkpoint) -> Path:
    """The image that a chat gets of a checkpoint, compiled if it is not there yet."""
    from emulator.quality.calibrate import calibrator_of

    options = default_options(source.config)
    folder = home() / image_name(source, options)
    if not is_image(folder):
        calibrator = None if options.quantiser == "fast" else calibrator_of(source)
        make_image(source, folder, options, calibrator)
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

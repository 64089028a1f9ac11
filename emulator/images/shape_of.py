"""A model's shape by any of its names, for time and area: nothing is compiled for it.

A name that is known here needs no file. Of a hub repository, only `config.json` is downloaded.
"""

from __future__ import annotations

from pathlib import Path

from emulator.config import LlamaConfig
from emulator.errors import CheckpointError, UsageError
from emulator.images.folder import is_image, listed_image
from emulator.timing.models import MODELS
from emulator.timing.shapes import shape_from_file

CONFIG = "config.json"


def shape_of(model: str) -> tuple[LlamaConfig, list[str]]:
    """Widths, and notes on what they leave out.

    model: a known shape, a name that `models` lists, an image's folder, a `config.json` or its
        folder, a GGUF file, or a hub repository (owner/repo[@revision]).

    Raises UsageError for anything else, UnsupportedError for a config of which no shape is known,
    CheckpointError or ImageError for a file that cannot be read.
    """
    if model in MODELS:
        return MODELS[model], []
    path = Path(model)
    if is_image(path):
        return _of_image(path)
    if path.suffix == ".gguf" and path.is_file():
        from weights.gguf_source import GgufCheckpoint

        return GgufCheckpoint(path).config, []
    if path.exists():
        return shape_from_file(path)
    if listed := listed_image(model):
        return _of_image(listed)
    if model.count("/") == 1 and not model.endswith(".json"):
        return shape_from_file(_hub_config(model))
    known = ", ".join(MODELS)
    raise UsageError(
        f"--model {model}: no file and no image; the known shapes are {known}; any {CONFIG} or "
        "owner/repo will do, too"
    )


def _of_image(folder: Path) -> tuple[LlamaConfig, list[str]]:
    from weights.rom_files import read_manifest

    return LlamaConfig.from_json(read_manifest(folder).object("model").values), []


def _hub_config(model: str) -> Path:
    """The repository's `config.json` in the hub's cache, downloaded if it is not there."""
    from weights.hub import Repository, explained

    repository = Repository.named(model)
    if repository is None:
        raise UsageError(f"--model {model}: not the name of a repository; write owner/repo")
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(repository.name, CONFIG, revision=repository.revision))
    except CheckpointError:
        raise
    except Exception as error:  # errors of its HTTP library, which changes, have no common base
        raise explained(error, repository) from None

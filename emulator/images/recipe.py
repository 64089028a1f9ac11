"""The recipe of an image: how a checkpoint is compiled by default, and the image's name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.home import home

if TYPE_CHECKING:
    from emulator.config import LlamaConfig
    from weights.checkpoint import Checkpoint
    from weights.compile import CompileOptions

EMBEDDED = "smollm2-135m"  # the model of `weights.gguf_source.embedded_checkpoint`
HC1_MODEL = "llama-3.1-8b"  # the model in HC1's masks; HC1's description sizes its KV SRAM


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to compile, how, and the folder of the image."""

    source: Checkpoint
    options: CompileOptions
    folder: Path


def recipe_of(source: Checkpoint, model: str) -> Recipe:
    """The default recipe of a checkpoint that was named `model`."""
    options = default_options(source.config)
    return Recipe(source, options, folder_of(source, model, options))


def quick_recipe(recipe: Recipe, model: str) -> Recipe:
    """Masks for a first chat: each weight rounded by itself, at 6 bits, which takes seconds."""
    from weights.allocate import default_mix
    from weights.compile import CompileOptions

    mix = default_mix(recipe.source.config, calibrated=False)
    options = CompileOptions(mix, recipe.options.context, "fast")
    return Recipe(recipe.source, options, folder_of(recipe.source, model, options))


def folder_of(source: Checkpoint, model: str, options: CompileOptions, text: str = "") -> Path:
    """Where the image of a checkpoint that was named `model` lies; `text` as in `image_name`."""
    from weights.merged import Merged

    own = model == EMBEDDED and not text and options.context == default_context(source.config)
    own = own and not isinstance(source, Merged)  # which is another model
    return embedded_folder(options) if own else home() / image_name(source, options, text)


def image_name(source: Checkpoint, options: CompileOptions, text: str = "") -> str:
    """Name of the image in the cache folder; `text` identifies a calibration text of yours."""
    from weights.compile import recipe_tag

    return (
        f"{source.name}-{source.digest[:8]}-{recipe_tag(options)}"
        f"{text and f'-{text}'}-c{options.context}"
    )


def embedded_folder(options: CompileOptions | None = None) -> Path:
    """Folder of the embedded model's image, by default the default one, existing or not."""
    from emulator.timing.models import known_model
    from weights.compile import recipe_tag

    return home() / f"{EMBEDDED}-{recipe_tag(options or default_options(known_model(EMBEDDED)))}"


def default_context(config: LlamaConfig) -> int:
    """Positions of an image: HC1's for the model in its masks, else at most DEFAULT_CONTEXT."""
    from emulator.silicon.spec import load_spec
    from emulator.timing.models import MODELS
    from weights.compile import DEFAULT_CONTEXT

    same = MODELS[HC1_MODEL]
    same = replace(config, hidden=same.hidden, layers=same.layers, ffn=same.ffn)
    most = int(load_spec().kv_sram.positions) if config == same else DEFAULT_CONTEXT
    return min(config.context, most)


def default_quantiser(config: LlamaConfig) -> str:
    """The best quantiser level that an ordinary computer reaches within half an hour or so."""
    from weights.allocate import SMALL_PARAMETERS

    return "best" if config.parameters <= SMALL_PARAMETERS else "fast"


def default_options(config: LlamaConfig) -> CompileOptions:
    """How `chat` and the like compile a checkpoint."""
    from weights.allocate import default_mix
    from weights.compile import CompileOptions

    quantiser = default_quantiser(config)
    mix = default_mix(config, calibrated=quantiser != "fast")
    return CompileOptions(mix, default_context(config), quantiser)

"""What chat and run share: the default image, a chip with it, the line under an answer."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from emulator import __version__
from emulator.errors import UsageError

if TYPE_CHECKING:
    from emulator.chat.generate import Answer
    from emulator.chat.template import ChatFormat
    from emulator.chip import Chip
    from emulator.silicon.spec import ChipSpec
    from weights.rom import RomImage


def add_answer_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that answers a prompt."""
    parser.add_argument("--system", help="system prompt")
    parser.add_argument("--max-tokens", type=int, default=512)


def default_image() -> RomImage:
    """The embedded small model's image, compiled on first use."""
    from weights.compile import DEFAULT_MIX, CompileOptions, compile_image
    from weights.gguf_source import GgufCheckpoint, embedded_checkpoint
    from weights.mix import Mix
    from weights.rom import MANIFEST, open_image

    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hardwired-llama"
    home = Path(os.environ.get("HARDWIRED_HOME", cache))
    folder = home / f"smollm2-135m-{DEFAULT_MIX}-{__version__}"
    if not (folder / MANIFEST).exists():
        source = GgufCheckpoint(embedded_checkpoint())
        options = CompileOptions(Mix.parse(DEFAULT_MIX), source.config.context)

        def progress(done: int, total: int) -> None:
            print(f"\rcompiling the masks: {done}/{total} matrices", end="", file=sys.stderr)

        compile_image(source, folder, options, progress)
        print(file=sys.stderr)
    return open_image(folder)


def power_on() -> tuple[ChatFormat, Chip, ChipSpec]:
    """The default model's chat format, a chip that holds it, and the chip's description."""
    from emulator.chat.template import ChatFormat
    from emulator.chip import Chip
    from emulator.silicon.spec import load_chip

    image = default_image()
    chat = ChatFormat(image.tokenizer_json, image.manifest["chat_style"])
    return chat, Chip(image), load_chip()


def summary(answer: Answer) -> str:
    return (
        f"[chip: {answer.tokens_per_second:,.0f} tok/s, "
        f"{answer.chip_seconds * 1e6:,.0f} us in all, "
        f"{sum(answer.cycles.values()):,} cycles (estimate) | host: {answer.host_seconds:.1f} s]"
    )


def positive(tokens: int) -> int:
    if tokens < 1:
        raise UsageError(f"--max-tokens must be at least 1, not {tokens}")
    return tokens

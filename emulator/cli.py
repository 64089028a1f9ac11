"""The commands. Heavy imports stay inside them, so that --help is instant."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator import __version__
from emulator.errors import EmulatorError, UsageError

if TYPE_CHECKING:
    from emulator.chat.generate import Answer
    from emulator.chat.template import ChatFormat
    from emulator.chip import Chip
    from emulator.silicon.spec import ChipSpec
    from weights.rom import RomImage


def main(argv: list[str] | None = None) -> int:
    """Run one command; 2 for the user's mistakes, with one line on standard error."""
    args = _parser().parse_args(argv)
    try:
        return int(args.command(args))
    except EmulatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emulator", description="A Llama hardwired in silicon, emulated."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    chat = commands.add_parser("chat", help="talk to the chip")
    chat.set_defaults(command=_chat)
    run = commands.add_parser("run", help="one answer")
    run.add_argument("prompt")
    run.add_argument("--json", action="store_true", help="print one JSON object")
    run.set_defaults(command=_run)
    for command in (chat, run):
        command.add_argument("--system", help="system prompt")
        command.add_argument("--max-tokens", type=int, default=512)
    return parser


def _default_image() -> RomImage:
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


def _power_on() -> tuple[ChatFormat, Chip, ChipSpec]:
    """The default model's chat format, a chip that holds it, and the chip's description."""
    from emulator.chat.template import ChatFormat
    from emulator.chip import Chip
    from emulator.silicon.spec import load_chip

    image = _default_image()
    chat = ChatFormat(image.tokenizer_json, image.manifest["chat_style"])
    return chat, Chip(image), load_chip()


def _summary(answer: Answer) -> str:
    return (
        f"[chip: {answer.tokens_per_second:,.0f} tok/s, {answer.chip_seconds * 1e6:,.0f} us in all, "
        f"{sum(answer.cycles.values()):,} cycles (estimate) | host: {answer.host_seconds:.1f} s]"
    )


def _run(args: argparse.Namespace) -> int:
    from emulator.chat.generate import generate

    chat, chip, spec = _power_on()
    prompt = [*chat.opening(args.system), *chat.question(args.prompt)]
    answer = generate(chip, spec, prompt, _positive(args.max_tokens))
    text = chat.decode(answer.token_ids)
    if not args.json:
        print(text)
        print(_summary(answer))
        return 0
    rate = len(answer.token_ids) / answer.host_seconds
    report: dict[str, Any] = {
        "schema": 1,
        "text": text,
        "token_ids": answer.token_ids,
        "prompt_tokens": answer.prompt_tokens,
        "output_tokens": len(answer.token_ids),
        "chip": {
            "cycles": sum(answer.cycles.values()),
            "seconds": answer.chip_seconds,
            "tokens_per_second": answer.tokens_per_second,
            "ttft_seconds": answer.prefill_cycles / answer.clock_hz,
            "cycles_by_block": dict(answer.cycles),
        },
        "host": {"seconds": answer.host_seconds, "tokens_per_second": rate},
        "logits_sha256": answer.logits_sha256,
    }
    print(json.dumps(report))
    return 0


def _chat(args: argparse.Namespace) -> int:
    from emulator.chat.generate import generate

    chat, chip, spec = _power_on()
    said = ""

    def emit(ids: list[int]) -> None:
        nonlocal said
        text = chat.decode(ids)
        if not text.endswith("\ufffd"):  # a character may take several tokens
            print(text[len(said) :], end="", flush=True)
            said = text

    opening = chat.opening(args.system)
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except (EOFError, KeyboardInterrupt):
            return 0
        if not line.strip():
            continue
        said = ""
        prompt = [*opening, *chat.question(line)]
        answer = generate(chip, spec, prompt, _positive(args.max_tokens), emit)
        opening = [*answer.token_ids[-1:], *chat.encode("\n")]
        print(f"\n{_summary(answer)}", flush=True)


def _positive(tokens: int) -> int:
    if tokens < 1:
        raise UsageError(f"--max-tokens must be at least 1, not {tokens}")
    return tokens

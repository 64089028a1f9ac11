"""What chat and run share: options of an answer, and a chip that is ready to give it."""

from __future__ import annotations

import argparse
import sys
from datetime import date
from typing import TYPE_CHECKING

from emulator.commands.image_options import add_image_options, chosen_image
from emulator.commands.lora_options import add_lora_option, chosen_adapters
from emulator.errors import UsageError

if TYPE_CHECKING:
    from emulator.chat.sampler import Sampler
    from emulator.chat.template import ChatFormat
    from emulator.chip import Chip
    from emulator.silicon.spec import ChipSpec


def add_answer_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that answers a prompt."""
    add_image_options(parser)
    add_lora_option(parser)
    parser.add_argument("--system", metavar="TEXT", help="system prompt")
    parser.add_argument(
        "--date", metavar="YYYY-MM-DD", help="what Llama 3 is told of today; default: today"
    )
    parser.add_argument("--max-tokens", type=int, default=512, metavar="N", help="512")
    parser.add_argument(
        "--top-k", type=int, default=1, metavar="K", help="pick from the K best, 1 to 8; 1: greedy"
    )
    parser.add_argument("--temperature", type=float, metavar="T", help="0.01 to 2; default 1")
    parser.add_argument("--seed", type=int, metavar="N", help="0 to 2**64 - 1; default 0")
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end before TEXT; repeatable"
    )


def checked_sampler(args: argparse.Namespace) -> Sampler:
    """The sampler that the options ask for, all options of an answer checked.

    Raises UsageError for one outside its range.
    """
    from emulator.chat.sampler import Sampler

    if args.max_tokens < 1:
        raise UsageError(f"--max-tokens must be at least 1, not {args.max_tokens}")
    if "" in args.stop:
        raise UsageError("--stop needs a text that is not empty")
    temperature = 1.0 if args.temperature is None else args.temperature
    sampler = Sampler(args.top_k, temperature, args.seed or 0)
    if args.top_k == 1 and (args.temperature, args.seed) != (None, None):
        print("note: --temperature and --seed do nothing without --top-k 2 to 8", file=sys.stderr)
    return sampler


def powered_chip(args: argparse.Namespace) -> tuple[ChatFormat, Chip, ChipSpec]:
    """The chosen model's chat format, a chip that holds it, and the chip's description."""
    from emulator.chat.template import chat_format
    from emulator.chip import Chip
    from emulator.silicon.spec import load_spec

    today = _today(getattr(args, "date", None))
    image = chosen_image(args)
    chat = chat_format(image.tokenizer_json, image.manifest["chat_style"], today)
    chip = Chip(image, adapters=chosen_adapters(args, image))
    for name in chip.adapters:
        chip.use(name)
    return chat, chip, load_spec()


def _today(text: str | None) -> date:
    """The date of --date, or today's."""
    try:
        return date.today() if text is None else date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--date {text}: write a date such as 2026-03-05") from None


def write(text: str) -> None:
    """To standard output at once."""
    print(text, end="", flush=True)

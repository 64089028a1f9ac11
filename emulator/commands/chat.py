"""`chat`: a conversation with the chip."""

from __future__ import annotations

import argparse
import contextlib
import secrets
import sys
from typing import TYPE_CHECKING, Any

from emulator.commands.answer_options import (
    Sampling,
    add_answer_options,
    checked_date,
    checked_sampling,
)
from emulator.errors import ContextError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.commands.talk import Talk
    from weights.rom import RomImage

TOP_K = 8  # on a terminal, where greedy answers of a small model run into loops
TEMPERATURE = 0.2  # SmolLM2's own; of 30 seeds 24 name France's capital, at 0.5 13, at 1 9
SEEDS = 1 << 31  # one is drawn and shown


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "chat",
        help="talk to the chip",
        description="Talk to the chip; /help lists the words that are for the program. Ctrl+C "
        "ends an answer, Ctrl+D the chat. On a terminal the chip's sampler picks from the 8 best "
        "tokens, with a seed that is shown. Piped input is answered line by line, greedily.",
    )
    add_answer_options(parser)
    parser.add_argument("--cycles", action="store_true", help="cycles by block under an answer")
    parser.add_argument(
        "--pace",
        choices=("host", "chip", "readable"),
        default="host",
        help="say it as this computer computes it, as the chip would, or as people read",
    )
    parser.add_argument(
        "--wait",
        action="store_true",
        help="on a model's first use: wait minutes for the calibrated masks, not seconds for "
        "quick ones",
    )
    parser.set_defaults(command=_chat)


def _chat(args: argparse.Namespace) -> int:
    from emulator.commands.chat_input import open_input
    from emulator.home import home
    from emulator.terminal.progress import progress

    drawn = Sampling(TOP_K, TEMPERATURE, secrets.randbelow(SEEDS))
    usual = drawn if sys.stdin.isatty() else None
    sampling = checked_sampling(args, usual)
    checked_date(args)
    with progress("starting"):
        from emulator.commands.talk import Talk  # heavy
        from emulator.images.first_start import BetterMasks

        image, default = _image(args)
        talk = Talk(args, image, sampling)
    if sys.stdin.isatty():
        print(talk.banner(), flush=True)
    try:
        if default is not None:
            talk.look_forward(BetterMasks(args.model, default))
        with open_input(home() / "chat_history"):
            _converse(talk)
    finally:
        if talk.better is not None:
            talk.better.end()
    return 0


def _image(args: argparse.Namespace) -> tuple[RomImage, Path | None]:
    """The image to begin with, and the folder of the default one if it is still to be made."""
    from emulator.commands.image_options import chosen_image
    from emulator.images.first_start import first_image
    from weights.rom import open_image

    if args.image or args.wait:
        return chosen_image(args), None
    folder, default = first_image(args.model)
    return open_image(folder), default


def _converse(talk: Talk) -> None:
    """Answer message after message until the input ends."""
    from emulator.commands.chat_input import next_message
    from emulator.commands.slash import obey

    while True:
        talk.look_at_better()
        message = next_message()
        if message is None:
            return
        with contextlib.suppress(KeyboardInterrupt):  # between two tokens
            try:
                if message.startswith("/"):
                    if not obey(talk, message.strip()):
                        return
                elif message.strip():
                    talk.ask(message)
            except (ContextError, UsageError) as error:
                print(f"error: {error}", file=sys.stderr)

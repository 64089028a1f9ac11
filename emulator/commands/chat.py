"""`chat`: a conversation with the chip."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from emulator.commands.power_on import add_answer_options, positive, power_on, summary


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("chat", help="talk to the chip")
    add_answer_options(parser)
    parser.set_defaults(command=_chat)


def _chat(args: argparse.Namespace) -> int:
    from emulator.chat.generate import generate

    chat, chip, spec = power_on()
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
        answer = generate(chip, spec, prompt, positive(args.max_tokens), emit)
        opening = [*answer.token_ids[-1:], *chat.encode("\n")]
        print(f"\n{summary(answer)}", flush=True)

"""`chat`: a conversation with the chip."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from typing import TYPE_CHECKING, Any

from emulator.commands.answer_options import (
    add_answer_options,
    checked_sampler,
    powered_chip,
    write,
)
from emulator.errors import ContextError

if TYPE_CHECKING:
    from emulator.chat.answer import Answer
    from emulator.chat.conversation import Conversation

NEW = "/new"  # a line that starts the conversation again


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "chat",
        help="talk to the chip",
        description=f"Talk to the chip. Ctrl+C ends an answer, Ctrl+D the program; {NEW} begins "
        "a new conversation. Piped input is answered line by line.",
    )
    add_answer_options(parser)
    parser.add_argument("--cycles", action="store_true", help="cycles by block under an answer")
    parser.add_argument(
        "--pace",
        choices=("host", "chip", "readable"),
        default="host",
        help="say it as this computer computes it, as the chip would, or as people read",
    )
    parser.set_defaults(command=_chat)


def _chat(args: argparse.Namespace) -> int:
    from rich.console import Console

    from emulator.chat.answer import CONTEXT
    from emulator.chat.conversation import Conversation
    from emulator.chat.printer import cycles_table, summary

    sampler = checked_sampler(args)
    chat, chip, spec = powered_chip(args)
    conversation = Conversation(chip, spec, chat, sampler, args.max_tokens, args.system)
    _open_input()
    while (line := _next_line()) is not None:
        if line.strip() == NEW:
            conversation.restart()
        elif line.strip():
            try:
                answer = _answer(conversation, line, args)
            except ContextError as error:
                print(f"error: {error}", file=sys.stderr)
                continue
            print(f"\n{summary(answer)}", flush=True)
            if args.cycles:
                Console(file=sys.stdout).print(cycles_table(answer))
            if answer.reason == CONTEXT:
                _tell(f"all {chip.context} positions are taken; a new conversation begins")
    return 0


def _open_input() -> None:
    """Editing and history for a terminal; a pipe may hold bytes that are no text."""
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401
    elif isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")


def _next_line() -> str | None:
    """What the user types, or None at the end of the input."""
    try:
        return input("> " if sys.stdin.isatty() else "")
    except (EOFError, KeyboardInterrupt):
        if sys.stdin.isatty():
            print()  # leave the prompt's line
        return None


def _answer(conversation: Conversation, line: str, args: argparse.Namespace) -> Answer:
    """Ask, and say the answer. A question that fits only alone begins a new conversation."""
    from rich.console import Console

    from emulator.chat.printer import Printer
    from emulator.chat.text_stream import TextStream

    printer = Printer(TextStream(conversation.chat.decode, args.stop), args.pace, write)
    silent = args.pace == "chip" and sys.stderr.isatty()
    waiting = Console(stderr=True).status("emulating ..") if silent else contextlib.nullcontext()
    with waiting:
        try:
            answer = conversation.ask(line, printer.on_token)
        except ContextError as error:
            if not conversation.begun:
                raise
            _tell(f"{error}; a new conversation begins")
            conversation.restart()
            answer = conversation.ask(line, printer.on_token)
    printer.finish(answer)
    return answer


def _tell(note: str) -> None:
    print(f"[{note}]", file=sys.stderr, flush=True)

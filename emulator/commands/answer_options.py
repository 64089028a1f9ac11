"""What chat and run share: options of an answer, and a chip that is ready to give it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.commands.image_options import add_image_options, chosen_image
from emulator.commands.lora_options import add_lora_option, chosen_adapters
from emulator.errors import UsageError

if TYPE_CHECKING:
    from emulator.chat.drafts import Drafts
    from emulator.chat.sampler import Picker
    from emulator.chat.template import ChatFormat
    from emulator.chip import Chip
    from emulator.silicon.spec import ChipSpec
    from weights.rom import RomImage


LOOKUP, NO_DRAFT = "lookup", "none"  # of --draft, which else names an image


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
        "--top-k",
        type=int,
        metavar="K",
        help="pick from the K best, 1 to 8; default 1, greedy",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="0 to 2; 0: greedy; default 1, chat on a terminal 0.2",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="0 to 2**64 - 1; default 0")
    parser.add_argument(
        "--top-p", type=float, metavar="P", help="host option: the best that hold P of the weight"
    )
    parser.add_argument(
        "--repeat-guard", action="store_true", help="host option: end an answer that loops"
    )
    parser.add_argument(
        "--draft",
        default=LOOKUP,
        metavar="IMAGE",
        help="have an image of the same vocabulary guess ahead, which saves this computer time and "
        'changes nothing else; "lookup", the default: guess what followed the same tokens before; '
        '"none"',
    )
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end before TEXT; repeatable"
    )


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are picked, as options and slash words say it; Picker's own checks apply."""

    top_k: int = 1
    temperature: float = 1.0
    seed: int = 0
    top_p: float | None = None

    @property
    def greedy(self) -> bool:
        return self.top_k == 1 or self.temperature == 0

    def picker(self) -> Picker:
        """The chip's sampler, or the host's for top-p. Raises UsageError outside a range."""
        from emulator.chat.nucleus import Nucleus
        from emulator.chat.sampler import Sampler

        if self.temperature == 0:
            return Sampler()
        sampler = Sampler(self.top_k, self.temperature, self.seed)
        return sampler if self.top_p is None else Nucleus(sampler, self.top_p)

    def __str__(self) -> str:
        if self.greedy:
            return "greedy"
        host = "" if self.top_p is None else f", top-p {self.top_p:g} (on the host)"
        return f"top-k {self.top_k}, temperature {self.temperature:g}, seed {self.seed}{host}"


def checked_sampling(args: argparse.Namespace, usual: Sampling | None = None) -> Sampling:
    """What the options ask for, `usual` where they are silent; all options of an answer checked.

    Raises UsageError for one outside its range.
    """
    if args.max_tokens < 1:
        raise UsageError(f"--max-tokens must be at least 1, not {args.max_tokens}")
    if "" in args.stop:
        raise UsageError("--stop needs a text that is not empty")
    asked = {name: getattr(args, name) for name in ("top_k", "temperature", "seed", "top_p")}
    given = {name: value for name, value in asked.items() if value is not None}
    sampling = replace(usual or Sampling(), **given)
    sampling.picker()
    idle_ones = given.keys() & {"seed", "top_p"}
    if sampling.top_k == 1 and (idle_ones or given.get("temperature", 0) not in (0, 1)):
        idle = "--temperature, --seed and --top-p"
        print(f"note: {idle} do nothing without --top-k 2 to 8", file=sys.stderr)
    return sampling


def powered_chip(args: argparse.Namespace) -> tuple[ChatFormat, Chip, ChipSpec]:
    """The chosen model's chat format, a chip that holds it, and the chip's description."""
    from emulator.terminal.progress import progress

    today = checked_date(args)
    with progress("opening the model", about_s=3):
        return chip_with(args, chosen_image(args), today)


def chip_with(
    args: argparse.Namespace, image: RomImage, today: date
) -> tuple[ChatFormat, Chip, ChipSpec]:
    """The image's chat format, a chip that holds it and uses --lora, and the chip's description."""
    from emulator.chat.template import chat_of
    from emulator.chip import Chip
    from emulator.silicon.spec import load_spec

    chat = chat_of(image, today)
    chip = Chip(image, adapters=chosen_adapters(args, image))
    for name in chip.adapters:
        chip.use(name)
    return chat, chip, load_spec()


def draft_source(args: argparse.Namespace, chip: Chip) -> Callable[[Picker], Drafts | None]:
    """What --draft says: drafts for an answer whose tokens this picker picks.

    Raises UsageError for an image of another vocabulary.
    """
    from emulator.chat.drafts import DraftChip, Drafts, Lookup
    from emulator.chip import Chip
    from weights.rom import open_image

    if args.draft == NO_DRAFT:
        return lambda picker: None
    if args.draft == LOOKUP:
        return lambda picker: Drafts(Lookup())
    guesser, size = Chip(open_image(Path(args.draft)), chip.context), chip.image.config.vocabulary
    DraftChip(guesser, size)  # checked now
    return lambda picker: Drafts(DraftChip(guesser, size, picker))


def checked_date(args: argparse.Namespace) -> date:
    """The date of --date, or today's."""
    text = getattr(args, "date", None)
    try:
        return date.today() if text is None else date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--date {text}: write a date such as 2026-03-05") from None


def write(text: str) -> None:
    """To standard output at once."""
    print(text, end="", flush=True)

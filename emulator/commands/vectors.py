"""`vectors`: stimulus and response of the blocks, for a test bench."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.commands.image_options import add_image_options, chosen_image
from emulator.errors import EmulatorError, UsageError

if TYPE_CHECKING:
    from emulator.chip import Chip

DEFAULT_TOKENS = 8
LOG = "commit.log"


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "vectors",
        help="stimulus and response of each block, for RTL",
        description="Runs tokens one by one and writes what each block is given and what it "
        "answers at the last one, and a log of every signal's hash. See docs/vectors.md.",
    )
    parser.add_argument("--block", default="all", metavar="NAME", help="one block; default: all")
    parser.add_argument("--layer", type=int, default=0, metavar="N", help="of layer blocks; 0")
    parser.add_argument("--tokens", metavar="IDS", help='token ids, "5,17,3"; default: 8 of them')
    parser.add_argument(
        "--rows", type=int, default=64, metavar="N", help="rows of each matrix that are kept; 64"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="DIR", help="a folder that is not there yet")
    what.add_argument("--replay", type=Path, metavar="DIR", help="run what a folder holds again")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_image_options(parser)
    parser.set_defaults(command=_vectors)


def _vectors(args: argparse.Namespace) -> int:
    if args.replay:
        return _replay(args.replay, args.json)
    from emulator.chip import Chip

    if args.rows < 1:
        raise UsageError(f"--rows must be at least 1, not {args.rows}")
    chip = Chip(chosen_image(args), context=1024)
    tokens = _tokens(args.tokens, chip)
    names = _write(args, chip, tokens)
    if args.json:
        print(json.dumps({"schema": 1, "out": str(args.out), "blocks": names, "tokens": tokens}))
    else:
        print(f"{args.out}: {len(names)} blocks at position {len(tokens) - 1}, and {LOG}")
    return 0


def _tokens(text: str | None, chip: Chip) -> list[int]:
    from emulator.verification.golden import golden_prompt

    vocabulary = chip.image.config.vocabulary
    if text is None:
        return golden_prompt(vocabulary, min(DEFAULT_TOKENS, chip.context))
    try:
        tokens = [int(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"--tokens must be numbers with commas between, not {text!r}") from None
    if len(tokens) > chip.context or not all(0 <= token < vocabulary for token in tokens):
        raise UsageError(f"--tokens: at most {chip.context} ids from 0 to {vocabulary - 1}")
    return tokens


def _write(args: argparse.Namespace, chip: Chip, tokens: list[int]) -> list[str]:
    """The folder appears as a whole or not at all."""
    from emulator.verification.vector_files import write_vector
    from emulator.verification.vectors import commit_log, vectors
    from weights.whole_folder import whole_folder

    block = None if args.block == "all" else args.block
    names = []
    try:
        with whole_folder(args.out, lambda folder: False) as folder:
            for vector in vectors(chip, tokens, block, args.layer, args.rows):
                write_vector(folder / vector.block, vector)
                names.append(vector.block)
            lines = "\n".join(commit_log(chip, tokens))
            (folder / LOG).write_text(lines + "\n", "ascii")
    except OSError as error:
        where = error.filename2 or error.filename or args.out
        raise UsageError(f"{where}: cannot be written: {error.strerror}") from None
    return names


def _replay(folder: Path, as_json: bool) -> int:
    """Each block of a folder, made of its vector, by the NumPy twins."""
    import numpy as np

    import kernels
    from emulator.verification.vector_files import INDEX, read_vector
    from emulator.verification.vectors import expected, replay

    places = sorted(path.parent for path in folder.glob(f"*/{INDEX}"))
    if not places:
        raise UsageError(f"{folder}: no block's folder with {INDEX}")
    rows = []
    for place in places:
        try:
            vector = read_vector(place)
            answers, wanted = replay(vector, kernels.load("reference")), expected(vector)
            wrong = [
                n
                for n, a in wanted.items()
                if n not in answers or not np.array_equal(answers[n], a)
            ]
            problem = f"differs: {', '.join(wrong)}" if wrong else None
        except EmulatorError as error:
            problem = str(error)
        rows.append({"block": place.name, "problem": problem})
        if not as_json:
            print(f"{problem or 'as recorded':<14} {place.name}")
    if as_json:
        print(json.dumps({"schema": 1, "blocks": rows}))
    return 1 if any(row["problem"] for row in rows) else 0

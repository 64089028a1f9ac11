"""On paper: what larger machines would do, from what a core and the memory do here.

    python -m benchmarks.roofline [--json] [--model 8b] [--machines 8:96,16:96,64:614]

A machine is cores:GB/s of its memory (96: two channels of DDR5-6000; 614: twelve of DDR5-6400, both
by arithmetic). A pass takes as long as memory needs for the masks, at the share of its bandwidth
that decode reaches here, or as the cores need for the products, at a core's rate here, whichever
is longer. Attention, barriers and what threads wait for each other are left out: an upper bound.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import common
from emulator.board import Board
from weights.rom import RomImage

CONTEXT, MANY, PROMPT = 64, 16, 128


def machines(text: str) -> list[tuple[int, float]]:
    """Of an option "8:96,16:96": cores, and bytes a second."""
    pairs = (part.split(":") for part in text.split(","))
    return [(int(cores), float(gigabytes) * 1e9) for cores, gigabytes in pairs]


def rows_of(
    model: str, image: RomImage, options: list[tuple[int, float]], threads: int
) -> list[dict[str, Any]]:
    """Measure here, then a row for this machine, measured, and one for each on paper."""
    board = Board(image, MANY, CONTEXT + 64)
    common.use_threads(threads)
    passes = common.sequence_seconds(board, [1, 8, MANY], CONTEXT, 8, best=True)
    common.prefill_seconds(board.chips[0], 8)
    prefill = min(common.prefill_seconds(board.chips[0], PROMPT) for _ in range(3))
    read, size = common.read_bandwidth(threads), common.code_bytes(image)
    work = sum(m.rows * m.columns for m in common.multiplied(image))  # products of one token
    share = size / passes[1] / read
    a_core = MANY * work / passes[MANY] / threads  # products a second, of few tokens
    in_prefill = PROMPT * work / prefill / threads

    def row(cores: int, memory: float, one: float, eight: float, prompt: float) -> dict[str, Any]:
        return {
            "model": model,
            "cores": cores,
            "GB_per_s": memory / 1e9,
            "decode_tok_per_s": one,
            "eight_sequences_tok_per_s": eight,
            "prefill_tok_per_s": prompt,
            "bound_of_decode": "memory"
            if size / (share * memory) > work / (cores * a_core)
            else "cores",
        }

    def tokens_a_second(count: int, cores: int, memory: float) -> float:
        return count / max(size / (share * memory), count * work / (cores * a_core))

    here = row(threads, read, 1 / passes[1], 8 / passes[8], PROMPT / prefill)
    return [
        {**here, "what": "measured"},
        *(
            {
                **row(
                    cores,
                    memory,
                    tokens_a_second(1, cores, memory),
                    tokens_a_second(8, cores, memory),
                    cores * in_prefill / work,
                ),
                "what": "on paper",
            }
            for cores, memory in options
        ),
    ]


def main() -> None:
    parser = common.parser(__doc__.splitlines()[0])
    parser.add_argument("--machines", type=machines, default="8:96,16:96,64:614")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for model in common.chosen(args):
        with common.image_of(model, args.layers) as image:
            rows += rows_of(model, image, args.machines, args.threads)
    common.show("roofline", rows, args.json)


if __name__ == "__main__":
    main()

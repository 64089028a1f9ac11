"""Decode of SmolLM2 with a LoRA adapter on all seven matrices and without, in turn.

    python -m benchmarks.adapter [--json] [--ranks 8,16] [--rounds 12] [--tokens 16] [--threads 2]

The adapter's numbers are random: time does not depend on them. Medians of all steps.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import common
from emulator.chip import NO_ADAPTER, Chip
from emulator.images.adapters import load_adapters
from tests.support.adapters import write_adapter

POSITION = 64


def main() -> None:
    parser = common.parser(__doc__.splitlines()[0], models=False)
    parser.add_argument("--ranks", type=common.numbers, default=[16])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=16, help="steps of a round")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    with common.image_of("smollm2", 0) as image, TemporaryDirectory() as folder:
        wanted = {f"rank-{rank}": rank for rank in args.ranks}
        folders = [write_adapter(Path(folder) / n, image.config, r) for n, r in wanted.items()]
        chip = Chip(image, adapters=load_adapters(image, [str(f) for f in folders]))
    common.use_threads(args.threads)
    names = [NO_ADAPTER, *chip.adapters]
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(args.rounds):
        for name in names:
            chip.use(name)
            common.fill_kv(chip, POSITION)
            common.decode_seconds(chip, POSITION, 2)
            times[name].append(common.decode_seconds(chip, POSITION, args.tokens))
    medians = {name: statistics.median(found) for name, found in times.items()}
    rows: list[dict[str, Any]] = [
        {
            "adapter": name or "none",
            "ms_per_token": median * 1e3,
            "tokens_per_s": 1 / median,
            "of_none": medians[NO_ADAPTER] / median,
        }
        for name, median in medians.items()
    ]
    common.show("adapter", rows, args.json)


if __name__ == "__main__":
    main()

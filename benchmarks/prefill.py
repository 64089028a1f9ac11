"""Prefill of whole models by threads and prompt length.

python -m benchmarks.prefill [--json] [--model smollm2] [--threads 1,2] [--prompts 128,512]
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import common
from emulator.chip import Chip


def main() -> None:
    parser = common.parser(__doc__.splitlines()[0])
    parser.add_argument("--threads", type=common.numbers, default=[1, 2])
    parser.add_argument("--prompts", type=common.numbers, default=[128, 512])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for model in common.chosen(args):
        with common.image_of(model, args.layers) as image:
            chip = Chip(image)
            common.prefill_seconds(chip, 8)
            for threads in args.threads:
                common.use_threads(threads)
                for prompt in args.prompts:
                    times = [common.prefill_seconds(chip, prompt) for _ in range(args.rounds)]
                    seconds = statistics.median(times)
                    rows.append(
                        {
                            "model": model,
                            "layers": image.config.layers,
                            "threads": threads,
                            "prompt_tokens": prompt,
                            "seconds": seconds,
                            "tokens_per_s": prompt / seconds,
                        }
                    )
    common.show("prefill", rows, args.json)


if __name__ == "__main__":
    main()

"""Decode steps of whole models by threads and context: time, tokens a second, bandwidth, memory.

python -m benchmarks.decode [--json] [--model 8b] [--threads 1,2] [--contexts 64,4096]
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import common
from emulator.chip import Chip
from weights.rom import open_image


def main() -> None:
    parser = common.parser(__doc__.splitlines()[0])
    parser.add_argument("--threads", type=common.numbers, default=[1, 2])
    parser.add_argument("--contexts", type=common.numbers, default=[64, 4096])
    parser.add_argument("--tokens", type=int, default=16, help="steps of a measurement")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for model in common.chosen(args):
        with common.image_of(model, args.layers) as image:
            begin = time.perf_counter()
            chip = Chip(open_image(image.folder, check_hashes=False))
            opened = time.perf_counter() - begin
            for threads in args.threads:
                common.use_threads(threads)
                for context in args.contexts:
                    common.fill_kv(chip, context - 1)
                    common.decode_seconds(chip, context - 1, 2)
                    bandwidth = common.read_bandwidth(threads, repeats=3)
                    seconds = common.decode_seconds(chip, context - 1, args.tokens)
                    read = common.code_bytes(image) / seconds
                    rows.append(
                        {
                            "model": model,
                            "layers": image.config.layers,
                            "threads": threads,
                            "context": context,
                            "ms_per_token": seconds * 1e3,
                            "tokens_per_s": 1 / seconds,
                            "weights_gb_per_s": read / 1e9,
                            "read_gb_per_s": bandwidth / 1e9,
                            "share_of_bandwidth": read / bandwidth,
                            "open_s": opened,
                            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
                        }
                    )
    common.show("decode", rows, args.json)


if __name__ == "__main__":
    main()

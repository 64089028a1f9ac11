"""The hot core by itself: GMAC/s, GB/s of packed weights, share of the machine's read bandwidth.

python -m benchmarks.kernels [--json] [--threads 1,2]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

import kernels
from benchmarks import common
from benchmarks.synthetic import random_matrix

SHAPES = [  # bits, rows, columns, tokens
    (3, 57344, 4096, 1),
    (4, 57344, 4096, 1),
    (6, 57344, 4096, 1),
    (6, 3072, 576, 1),
    (3, 14336, 4096, 64),
    (4, 14336, 4096, 64),
    (6, 14336, 4096, 64),
    (6, 3072, 576, 64),
]


def fabric_rows(threads: int, bandwidth: float) -> list[dict[str, Any]]:
    ops, rng, rows = kernels.load(), np.random.default_rng(0), []
    for bits, height, columns, tokens in SHAPES:
        matrix = random_matrix(rng, height, columns, bits)
        x = rng.integers(-127, 128, (tokens, columns)).astype(np.int8)
        scale = np.tile(np.array([[40000, 20]], np.int32), (tokens, 1))
        seconds = common.best_seconds(lambda m=matrix, x=x, s=scale: ops.fabric((m,), x, s))
        read = (matrix.codes.nbytes + matrix.group_scale.nbytes) / seconds
        rows.append(
            {
                "kernel": "matvec" if tokens == 1 else "matmul",
                "bits": bits,
                "rows": height,
                "columns": columns,
                "tokens": tokens,
                "threads": threads,
                "gmac_per_s": height * columns * tokens / seconds / 1e9,
                "gb_per_s": read / 1e9,
                "share_of_bandwidth": read / bandwidth if tokens == 1 else None,
            }
        )
    return rows


def main() -> None:
    parser = common.parser(__doc__.splitlines()[0], models=False)
    parser.add_argument("--threads", type=common.numbers, default=[1, 2])
    args = parser.parse_args()
    rows, bandwidths = [], {}
    for threads in args.threads:
        common.use_threads(threads)
        bandwidths[threads] = common.read_bandwidth(threads)
        rows += fabric_rows(threads, bandwidths[threads])
    common.show(
        "kernels",
        rows,
        args.json,
        read_gb_per_s={str(n): round(b / 1e9, 2) for n, b in bandwidths.items()},
    )


if __name__ == "__main__":
    main()

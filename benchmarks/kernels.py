"""The hot core by itself: GMAC/s, GB/s of packed weights, share of the machine's read bandwidth.

python -m benchmarks.kernels [--json] [--threads 1,2] [--only attention]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

import kernels
from benchmarks import common
from benchmarks.synthetic import random_matrix
from kernels.rom.few import FEW
from kernels.rom.pack import PackedMatrix

SHAPES = [  # bits, rows, columns, tokens: after a matrix by one token, the same by more
    (3, 57344, 4096, (1, 2, 4, 8, 16, 32)),
    (4, 57344, 4096, (1, 8)),
    (6, 57344, 4096, (1, 8)),
    (6, 3072, 576, (1, 8, 64)),
    (3, 14336, 4096, (64,)),
    (4, 14336, 4096, (64,)),
    (6, 14336, 4096, (64,)),
]

# Query heads, KV heads, their values; tokens, positions; layers in turn, so that a token of a long
# context finds its keys and values where a whole model's would be: not in the caches of a core.
ATTENTION = [
    (9, 3, 64, 1, 64, 30),
    (9, 3, 64, 1, 2000, 30),
    (32, 8, 128, 1, 64, 8),
    (32, 8, 128, 1, 4096, 8),
    (9, 3, 64, 512, 512, 1),
]


def fabric_rows(threads: int, bandwidth: float) -> list[dict[str, Any]]:
    rng, rows = np.random.default_rng(0), []
    for bits, height, columns, passes in SHAPES:
        matrix = random_matrix(rng, height, columns, bits)
        seconds = {tokens: pass_seconds(rng, matrix, tokens) for tokens in passes}
        for tokens in passes:
            read = (matrix.codes.nbytes + matrix.group_scale.nbytes) / seconds[tokens]
            rows.append(
                {
                    "kernel": "few" if tokens <= FEW else "matmul",
                    "bits": bits,
                    "rows": height,
                    "columns": columns,
                    "tokens": tokens,
                    "threads": threads,
                    "gmac_per_s": height * columns * tokens / seconds[tokens] / 1e9,
                    "times_one_token": seconds[tokens] / seconds[1] if 1 in passes else None,
                    "gb_per_s": read / 1e9,
                    "share_of_bandwidth": read / bandwidth if tokens == 1 else None,
                }
            )
    return rows


def pass_seconds(rng: np.random.Generator, matrix: PackedMatrix, tokens: int) -> float:
    ops = kernels.load()
    x = rng.integers(-127, 128, (tokens, matrix.columns)).astype(np.int8)
    scale = np.tile(np.array([[40000, 20]], np.int32), (tokens, 1))
    return common.best_seconds(lambda: ops.fabric((matrix,), x, scale))


def attention_rows(threads: int) -> list[dict[str, Any]]:
    rows = []
    for heads, kv_heads, head_dim, tokens, context, layers in ATTENTION:
        seconds = attention_seconds(heads, kv_heads, head_dim, tokens, context, layers) / layers
        met = heads * (tokens * context - tokens * (tokens - 1) // 2)  # positions by all heads
        rows.append(
            {
                "heads": heads,
                "kv_heads": kv_heads,
                "head_dim": head_dim,
                "tokens": tokens,
                "context": context,
                "threads": threads,
                "us_a_layer": 1e6 * seconds,
                "thread_ns_a_head_and_position": 1e9 * seconds * threads / met,
            }
        )
    return rows


def attention_seconds(
    heads: int, kv_heads: int, head_dim: int, tokens: int, context: int, layers: int
) -> float:
    """Of all layers, recorded as a pass over few tokens is."""
    ops, rng = kernels.load(), np.random.default_rng(0)

    def signal(vectors: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        values = rng.integers(-127, 128, (vectors, n, head_dim), np.int8)
        return values, np.tile(np.array([40000, 22], np.int32), (vectors, n, 1))

    rows = np.arange(context - tokens, context)
    with ops.record() as recording:
        for _ in range(layers):
            q, k, v = signal(tokens, heads), signal(context, kv_heads), signal(context, kv_heads)
            ops.attention(*q, *k, *v, rows, rows)
    return common.best_seconds(recording.again)


def main() -> None:
    parser = common.parser(__doc__.splitlines()[0], models=False)
    parser.add_argument("--threads", type=common.numbers, default=[1, 2])
    parser.add_argument("--only", choices=("fabric", "attention"))
    args = parser.parse_args()
    if args.only != "attention":
        show_fabric(args)
    if args.only != "fabric":
        rows = []
        for threads in args.threads:
            common.use_threads(threads)
            rows += attention_rows(threads)
        common.show("attention", rows, args.json)


def show_fabric(args: argparse.Namespace) -> None:
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

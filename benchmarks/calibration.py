"""Time and memory of calibrating one matrix: its inputs' moments, their factor, rows of codes.

    python -m benchmarks.calibration COLUMNS [--rows 64]

Prints a line a step: seconds on the clock, CPU seconds, peak memory so far. Rows cost alike, so a
few are enough. Llama 3.1 8B has 4,096 and, in the down projection, 14,336 columns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from emulator.host import peak_rss_bytes
from weights.calibrate import Moments
from weights.ldlq import Curvature, quantise_calibrated

TOKENS = 512  # a window of the calibration text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("columns", type=int)
    parser.add_argument("--rows", type=int, default=64)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    w = rng.standard_normal((args.rows, args.columns), np.float32)
    warm = Curvature.of(np.eye(64))
    quantise_calibrated(w[:, :64].copy(), warm, 3, 2)

    x = rng.integers(-40, 41, (TOKENS, args.columns)).astype(np.int8)
    scale = np.tile(np.array([40000, 20], np.int32), (TOKENS, 1))
    moments = Moments(args.columns)
    with measured(f"moments of {TOKENS} tokens"):
        moments.add(x, scale)
    with measured("their factor"):
        curvature = Curvature.of(moments.value)
    for level, rounds in (("calibrated", 0), ("best", 2)):
        for bits in (3, 6):
            with measured(f"{args.rows} rows, {level}, {bits} bits"):
                quantise_calibrated(w, curvature, bits, rounds)


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Print what the inside took."""
    clock, cpu = time.perf_counter(), time.process_time()
    yield
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    peak = (peak_rss_bytes() or 0) / 2**30
    print(f"{what}: {clock:.1f} s, {cpu:.1f} CPU s, peak {peak:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()

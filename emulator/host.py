"""What this computer has, and what this process took of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")  # bytes, or "max"


def peak_rss_bytes() -> int | None:
    """Largest resident memory of this process so far; None where the host does not tell."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def installed_bytes() -> int | None:
    """Memory of this computer, or of its container; None where the host does not tell."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    have = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = CONTAINER_LIMIT.read_text("ascii").strip()
    except (OSError, ValueError):
        return have
    return min(have, int(limit)) if limit.isdigit() else have


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share_cores(parties: int) -> None:
    """Give each of some threads that multiply float matrices its share of the cores.

    Only before NumPy is imported, which is when its BLAS library counts its threads. Two threads of
    it on one product of a small model mostly wait for each other: a window of `eval` took 10 CPU
    seconds with them and 2 without.
    """
    if "numpy" not in sys.modules:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", str(max(1, cores() // parties)))

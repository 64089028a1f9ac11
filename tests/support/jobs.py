"""Jobs for workers to run: at the level of a module, so that they can be pickled."""

from __future__ import annotations

import errno
import os
import resource
import signal
import time
from pathlib import Path

from weights.remote import local_copy


def square(x: int) -> int:
    return x * x


def slow_square(x: int, seconds: float) -> int:
    time.sleep(seconds)
    return x * x


def die_once(mark: str) -> str:
    """Kill this process the first time that anybody runs it."""
    path = Path(mark)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def full_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")


def copy_on_a_small_disk(address: str) -> str:
    """Fetch a copy where no file may grow beyond 1 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        return str(local_copy(address))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

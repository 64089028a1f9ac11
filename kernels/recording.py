"""The jobs of a pass, recorded, to be done again without a return to Python between them.

A step of a small model is some four hundred short jobs. Called one by one they cost more than the
arithmetic of all but the fabrics. A recorded pass has its arrays for good: who does it again first
writes new inputs into them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.host.job import JOB_WORDS
from kernels.host.team import Team

_of_thread = threading.local()


def now_recording() -> Recording | None:
    """What this thread records into."""
    return getattr(_of_thread, "recording", None)


class Recording:
    """Jobs in their order, with the arrays that they read and write."""

    def __init__(self, team: Team) -> None:
        self.whole = True  # jobs were all that was done
        self._team = team
        self._own, self._common = 0, 0  # bytes of memory that suffice for every job
        self._jobs: list[NDArray[np.int64]] = []
        self._in_a_row = np.empty(0, np.int64)
        self._kept: list[Any] = []  # the jobs hold only addresses

    @classmethod
    @contextmanager
    def made_by(cls, team: Team) -> Iterator[Recording]:
        """Record what this thread gives the team."""
        recording, before = cls(team), now_recording()
        _of_thread.recording = recording
        try:
            yield recording
        finally:
            _of_thread.recording = before

    def add(self, job: NDArray[np.int64], own: int, common: int, arrays: tuple[Any, ...]) -> None:
        """A job that was done, int64[JOB_WORDS], and what it needs."""
        self._own, self._common = max(self._own, own), max(self._common, common)
        self._jobs.append(job)
        self._kept.append(arrays)

    def again(self) -> None:
        """Do all of them once more."""
        if self._jobs:
            self._in_a_row = np.concatenate([self._in_a_row, *self._jobs])
            self._jobs.clear()
        count = self._in_a_row.size // JOB_WORDS
        self._team.run(self._in_a_row, count, self._own, self._common)

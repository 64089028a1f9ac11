"""The team of threads: any size, sleep, a second caller, a fork; always the same bits."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

from kernels import compiled, reference
from tests.support.signals import matrix, scales

MATRIX = matrix(777, 192, 3, 32)
X = np.random.default_rng(1).integers(-127, 128, (1, 192)).astype(np.int8)
SCALE = scales(np.random.default_rng(2), (1,), 20, 20)
EXPECTED = reference.fabric((MATRIX,), X, SCALE)[0]


def right() -> bool:
    return np.array_equal(compiled.fabric((MATRIX,), X, SCALE)[0], EXPECTED)


def test_many_jobs_in_a_row(threads):
    assert all(right() for _ in range(2000))


def test_after_a_sleep(threads):
    """Workers that went to sleep, and some that are just about to."""
    for pause_s in (0.0, 0.001, 0.003, 0.01, 0.05):
        for _ in range(5):
            assert right()
            time.sleep(pause_s)


def test_several_callers(threads):
    """While one has the team, the others work alone."""
    results: list[bool] = []
    callers = [
        threading.Thread(target=lambda: results.append(all(right() for _ in range(300))))
        for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [True] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork(threads):
    """The child has no workers and starts its own."""
    assert right()
    child = os.fork()
    if child == 0:
        os._exit(0 if all(right() for _ in range(20)) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert right()


def test_sizes():
    before = compiled.team().threads
    with pytest.raises(ValueError, match="at least one"):
        compiled.team().resize(0)
    compiled.team().resize(1000)
    assert compiled.team().threads == compiled.team().MOST
    compiled.team().resize(before)

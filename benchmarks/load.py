"""What else the machine was doing: a round beside foreign work is measured again, and counted."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
TICKS = os.sysconf("SC_CLK_TCK")
MOST_CORES = 0.1  # of others' work beside a round that counts
TRIES = 5  # then a round counts whatever was beside it


def machine_seconds() -> float:
    """CPU seconds of everything, since the machine started."""
    user, nice, system, _, _, *interrupts = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
    )
    return (user + nice + system + sum(interrupts)) / TICKS


def own_seconds(pids: Iterable[int]) -> float:
    """CPU seconds of this process, of children that have ended, and of these that have not."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    alive = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        alive += (int(fields[11]) + int(fields[12])) / TICKS
    return alive + sum(u.ru_utime + u.ru_stime for u in used)


@dataclass
class Load:
    """Rounds that were kept and thrown away, and what was beside the kept ones."""

    kept: int = 0
    thrown: int = 0
    most_cores: float = 0.0  # of others, beside a round that was kept
    at_all_costs: int = 0  # rounds that were kept though others worked

    def round(self, action: Callable[[], T], pids: Iterable[int] = ()) -> T:
        """The action's result, of a run with little beside it if there is one."""
        for left in reversed(range(TRIES)):
            begin, before = time.perf_counter(), machine_seconds() - own_seconds(pids)
            result = action()
            foreign = machine_seconds() - own_seconds(pids) - before
            cores = max(0.0, foreign) / (time.perf_counter() - begin)
            # The kernel counts in ticks: what one of them makes of a short round is no load.
            slack = 2 / TICKS / (time.perf_counter() - begin)
            if cores <= MOST_CORES + slack or not left:
                self.kept += 1
                self.at_all_costs += cores > MOST_CORES + slack
                self.most_cores = max(self.most_cores, round(cores, 2))
                return result
            self.thrown += 1
        raise AssertionError

    def told(self) -> dict[str, object]:
        """For the line above a table."""
        return {
            "rounds_kept": self.kept,
            "thrown_for_foreign_load": self.thrown,
            "kept_beside_it": self.at_all_costs,
            "most_foreign_cores": self.most_cores,
        }

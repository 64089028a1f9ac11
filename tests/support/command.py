"""A command of the program, run in this process."""

from __future__ import annotations

import json
from typing import Any

from emulator.cli import main


class Result:
    """Exit status, standard output and standard error."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def report(self) -> Any:
        assert self.status == 0, self.err
        report = json.loads(self.out)
        assert report["schema"] == 1
        return report

    def refused(self, *words: str) -> None:
        """Exit status 2 and one line that holds all the words; nothing on standard output."""
        assert self.status == 2, self.out
        assert self.out == ""
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        for word in words:
            assert word in line, line


class Runner:
    """Runs commands and captures what they print."""

    def __init__(self, capfd: Any) -> None:
        self._capfd = capfd

    def __call__(self, *words: object) -> Result:
        self._capfd.readouterr()
        try:
            status = main([str(word) for word in words])
        except SystemExit as end:
            status = int(end.code or 0)
        return Result(status, *self._capfd.readouterr())

"""Commands as a user types them, in this process or in one of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

Run = Callable[..., "Result"]


class Result:
    """Exit status, standard output and standard error of one command."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def report(self) -> dict:
        assert self.status == 0, self.err
        report = json.loads(self.out)
        assert report["schema"] == 1
        return report

    def refused(self, *words: str) -> None:
        """Exit status 2 and one line that holds all the words; nothing on standard output."""
        assert self.status == 2
        assert self.out == ""
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        for word in words:
            assert word in line


def process(*words: object, text: str | bytes = "", **environment: str) -> Result:
    """Run a command as a shell would."""
    done = subprocess.run(
        [sys.executable, "-m", "emulator", *map(str, words)],
        input=text if isinstance(text, bytes) else text.encode(),
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


# --- what --help costs ------------------------------------------------------------------------

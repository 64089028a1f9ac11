"""A command in this process."""

from __future__ import annotations

import pytest

from emulator.cli import main
from emulator.terminal import progress
from tests.support.command_line import Result, Run


@pytest.fixture
def here(capfd, tmp_path, monkeypatch) -> Run:
    """Run a command in this process, with a cache folder of its own."""
    monkeypatch.setenv("HARDWIRED_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(progress, "LINE_S", 1e6)  # no words on waiting, however busy the machine

    def run(*words: object) -> Result:
        capfd.readouterr()
        try:
            status = main([str(word) for word in words])
        except SystemExit as end:
            status = int(end.code or 0)
        return Result(status, *capfd.readouterr())

    return run

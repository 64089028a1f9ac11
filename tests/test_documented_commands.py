"""Every command line in README and docs: argparse takes it, or its target or file exists.

What needs no weights and no minute is run here; the rest by `docs/run_commands.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.command_lines import PYTHON, Line, command_lines
from emulator.cli import accepted, command_names, main
from tests.support.paths import ROOT

LINES = sorted(set(command_lines(command_names())))
CHEAP = ("area", "chips", "cycles", "trace", "validate")  # seconds, and no weights
CHEAP_LINES = sorted(
    {tuple(line.ours) for line in LINES if line.ours and line.ours[0] in CHEAP and line.block}
)
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def test_there_are_many():
    """The collector finds those of every kind, on README and on most pages."""
    assert len(LINES) > 60
    assert len({line.page for line in LINES}) > 8
    commands = {ours[0] for line in LINES if (ours := line.ours)}
    assert {"chat", "run", "compile", "eval", "verify", "cycles", "plan", "cost"} <= commands


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.text[:60])
def test_a_command_line_is_taken(line: Line):
    program, *words = line.words
    if line.ours is not None:
        if "COMMAND" not in line.ours:
            assert accepted(line.ours), line
    elif program == "make":
        assert words[0] in TARGETS, line
    elif program in (PYTHON, "python"):
        if words[0] == "-m":
            module = words[1].replace(".", "/")
            known = (ROOT / f"{module}.py").exists() or words[1] in ("pip", "pytest")
            assert known or (ROOT / module).is_dir(), line
        else:
            assert (ROOT / words[0]).is_file(), line
    else:  # whether it can be had is the reader's; its server's routes are tested elsewhere
        assert program in ("curl", "pipx", "hardwired-llama", "llm"), line


def test_in_a_clone_commands_name_the_environment():
    """What stands in a code block works as printed, after `make chat`."""
    assert [line for line in LINES if line.block and line.text.startswith("python ")] == []


@pytest.mark.parametrize("words", CHEAP_LINES, ids=" ".join)
def test_a_cheap_one_runs(words: tuple[str, ...], tmp_path: Path, monkeypatch, capfd):
    here = [str(ROOT / word) if (ROOT / word).is_file() else word for word in words]
    monkeypatch.chdir(tmp_path)
    assert main(here) == 0
    assert capfd.readouterr().out

"""What the command line says before any command runs."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import pytest

from emulator import cli, commands
from tests.installation.conftest import run

HEADINGS = {
    "talk": ["chat", "run", "serve"],
    "masks": ["compile", "models", "info", "respin"],
    "quality": ["eval"],
    "time": [
        *("cycles", "area", "infer", "validate", "sensitivity", "compare", "chips", "trace"),
    ],
    "traffic and cost": ["plan", "cost"],
    "proof": ["verify", "vectors", "rtl", "faults", "repair"],
}
HEAVY = ("numpy", "numba", "rich", "tokenizers", "shtab", "difflib", "importlib.metadata")


def said(capsys, *words: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    with pytest.raises(SystemExit) as end:
        cli.main(list(words))
    return (int(end.value.code or 0), *capsys.readouterr())


def test_commands_stand_under_headings(capsys):
    """One line each, in a terminal of 80 columns; a heading of another name may be added."""
    status, out, _ = said(capsys, "--help")
    assert status == 0
    listed: dict[str, list[str]] = {}
    for line in out.splitlines():
        assert len(line) <= 80, line
        if line.endswith(":") and not line.startswith(" "):
            names = listed.setdefault(line[:-1], [])
        elif line.startswith("    ") and line[4] != " " and listed:
            name, text = line.split(maxsplit=1)
            assert text
            names.append(name)
    assert listed.pop("options") == []
    assert {heading: listed.get(heading) for heading in HEADINGS} == HEADINGS
    assert sum(map(len, listed.values())) == sum(map(len, cli.COMMANDS.values()))


def test_no_command_is_forgotten():
    """Every module that registers a command is in the list."""
    modules = {
        importlib.import_module(f"emulator.commands.{module.name}")
        for module in pkgutil.iter_modules(commands.__path__)
    }
    listed = {module for group in cli.COMMANDS.values() for module in group}
    assert listed == {module for module in modules if hasattr(module, "register")}


def test_help_imports_nothing_heavy():
    """Nor anything that only mistakes and other options need."""
    done = run(sys.executable, "-X", "importtime", "-m", "emulator", "--help").checked()
    loaded = {line.rpartition("|")[2].strip() for line in done.err.splitlines()}
    assert {"emulator.cli", "emulator.installation"} <= loaded
    assert loaded.isdisjoint(HEAVY), loaded.intersection(HEAVY)


@pytest.mark.parametrize(
    ("typed", "meant"), [("comple", "compile"), ("modles", "models"), ("Chat", "chat")]
)
def test_a_mistyped_command(capsys, typed, meant):
    status, out, err = said(capsys, typed, "--json")
    assert (status, out) == (2, "")
    assert err == (
        f"error: no command '{typed}': did you mean '{meant}'?; see python -m emulator --help\n"
    )


def test_a_command_like_no_other(capsys):
    assert said(capsys, "xyzzy") == (
        *(2, ""),
        "error: no command 'xyzzy'; see python -m emulator --help\n",
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/usr/bin/hardwired-llama", "hardwired-llama"),
        ("hardwired-llama.exe", "hardwired-llama"),
        ("/site-packages/emulator/__main__.py", "python -m emulator"),
    ],
)
def test_the_name_that_was_typed(capsys, monkeypatch, path, name):
    """In usage, of a command too, and in complaints."""
    monkeypatch.setattr(sys, "argv", [Path(path).as_posix()])
    assert said(capsys, "--help")[1].startswith(f"usage: {name} [-h]")
    assert said(capsys, "run", "--help")[1].startswith(f"usage: {name} run [-h]")
    assert said(capsys, "run")[2].endswith(f"; see {name} run --help\n")

"""`--print-completion`: what the shells are given, and what bash makes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from emulator import cli
from emulator.commands.completion import SHELLS
from tests.installation.conftest import run

HEAVY = {"numpy", "numba", "rich", "tokenizers"}


def script(shell: str) -> str:
    return run(sys.executable, "-m", "emulator", "--print-completion", shell).checked().out


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_there(shell):
    """For the console script, however the emulator was started."""
    text = script(shell)
    assert "hardwired-llama" in text
    assert "python -m emulator" not in text
    for word in ("chat", "serve", "compile", "sensitivity", "faults", "max-tokens", "quantiser"):
        assert word in text


def completed(folder: Path, *words: str) -> set[str]:
    """What bash offers in `folder` for the last word."""
    (folder / "completion").write_text(script("bash"))
    line = " ".join(f"'{word}'" for word in ("hardwired-llama", *words))
    code = (
        f"source ./completion; COMP_WORDS=({line}); COMP_CWORD={len(words)}; "
        "_shtab_hardwired_llama; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        ["bash", "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_commands_and_options(tmp_path):
    assert completed(tmp_path, "c") == {"chat", "chips", "compare", "compile", "cost", "cycles"}
    assert completed(tmp_path, "serve", "--f") == {"--faithful"}
    assert completed(tmp_path, "chat", "--pace", "") == {"host", "chip", "readable"}


def test_paths(tmp_path):
    """Folders where a folder is asked for, files and folders elsewhere, nothing for a number."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine.gguf").touch()
    assert completed(tmp_path, "run", "--image", "mi") == {"mine"}
    assert completed(tmp_path, "run", "--model", "mi") == {"mine", "mine.gguf"}
    assert completed(tmp_path, "compile", "mi") == {"mine", "mine.gguf"}
    assert completed(tmp_path, "eval", "--text", "mi") == {"mine", "mine.gguf"}
    assert completed(tmp_path, "run", "--seed", "mi") == set()


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from emulator.cli import main\n"
        "try: main(['--print-completion', 'bash'])\n"
        "except SystemExit: print('MODULES', *sys.modules)"
    )
    loaded = run(sys.executable, "-c", code).checked().out.rpartition("MODULES")[2].split()
    assert "shtab" in loaded
    assert HEAVY.isdisjoint(loaded)


def test_without_the_library(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as end:
        cli.main(["--print-completion", "zsh"])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "error: --print-completion needs shtab: pip install shtab; see python -m emulator --help\n"
    )

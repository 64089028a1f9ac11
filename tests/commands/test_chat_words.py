"""Slash words, several lines, the banner: the chat on a pipe and on a terminal of its own."""

from __future__ import annotations

import io
import json
import os
import select
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest

from emulator.commands.answer_options import Sampling
from emulator.commands.talk import Talk
from tests.support.command_line import Result, Run
from weights.rom import RomImage


@pytest.fixture
def chat(here: Run, tiny_image: RomImage, monkeypatch):
    def say(*lines: str) -> Result:
        monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
        return here("chat", "--image", tiny_image.folder, "--max-tokens", 3)

    return say


def answers(result: Result) -> int:
    assert result.status == 0, result.err
    return result.out.count("[chip: ")


def test_an_unknown_word_never_reaches_the_model(chat):
    result = chat("/hepl", "/etc/passwd", " /sent", "/bye", "not read")
    assert answers(result) == 1
    assert "error: no /hepl: did you mean /help?" in result.err
    assert "error: no /etc/passwd: /help lists" in result.err


def test_help_lists_every_word(chat):
    result = chat("/help")
    assert answers(result) == 0
    for word in ("help", "new", "system", "seed", "temperature", "top-k", "cycles", "save", "bye"):
        assert f"  /{word} " in result.out


def test_the_sampler_is_changed_and_shown(chat):
    result = chat("/seed 5", "/top-k 8", "/temperature 0.5", "/temperature 0", "hi")
    notes = result.err.splitlines()
    assert notes[:2] == ["[greedy]", "[top-k 8, temperature 1, seed 5]"]
    assert notes[2:4] == ["[top-k 8, temperature 0.5, seed 5]", "[greedy]"]
    assert answers(result) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/top-k 9", "--top-k must be from 1 to 8, not 9"),
        ("/top-k many", "/top-k many: write a number"),
        ("/temperature 3", "--temperature must be"),
        ("/seed -1", "--seed must be"),
        ("/save", "/save where?"),
        ("/save /nowhere/at/all.md", "cannot be written"),
    ],
)
def test_a_wrong_argument_changes_nothing(chat, line: str, message: str):
    result = chat("/seed 4", line, "/seed", "hi")
    assert message in result.err
    assert result.err.splitlines()[-1] == "[greedy]"
    assert answers(result) == 1


def test_system_begins_a_new_conversation(chat):
    result = chat("hi", "/system Be brief.", "/system", "hi")
    assert "[system prompt: Be brief.]" in result.err
    assert answers(result) == 2


def test_save(chat, tmp_path: Path):
    """JSON and Markdown by the name; a file that is there is never replaced."""
    markdown, data = tmp_path / "a chat.md", tmp_path / "chat.json"
    result = chat("one", "/new", "two", f"/save {markdown}", f"/save {data}", f"/save {data}")
    assert answers(result) == 2
    saved = json.loads(data.read_text("utf-8"))
    assert [m["role"] for m in saved["messages"]] == ["user", "assistant"]
    assert saved["messages"][0]["content"] == "two"
    assert "**user**\n\ntwo\n" in markdown.read_text("utf-8")
    assert "exists already" in result.err
    assert len(list(tmp_path.glob("*chat*"))) == 2


def test_several_lines_are_one_message(chat, tmp_path: Path):
    data = tmp_path / "chat.json"
    result = chat('"""one', "", '  two"""', f"/save {data}")
    assert answers(result) == 1
    assert json.loads(data.read_text("utf-8"))["messages"][0]["content"] == "one\n\n  two"


def test_cycles_under_an_answer(chat):
    result = chat("hi", "/cycles", "hi", "/cycles", "hi")
    assert answers(result) == 3
    assert result.out.count("fabric_down") == 2  # of the last answer, then of the next


@pytest.mark.skipif(os.name != "posix", reason="terminals of POSIX")
def test_on_a_terminal(tiny_image: RomImage, tmp_path: Path):
    """A banner of two lines with model, bits, chip, /help and a seed; history for the next time."""
    screen = _on_terminal(tiny_image, tmp_path, "hello\n/bye\n")
    banner = next(line for line in screen.splitlines() if "bits a weight" in line)
    assert "HC1" in banner
    assert "masks" in banner
    (sampler,) = [line for line in screen.splitlines() if "/help" in line]
    assert sampler.startswith("top-k 8, temperature ")
    assert ", seed " in sampler
    assert "[chip: " in screen
    assert "hello" in (tmp_path / "chat_history").read_text("utf-8")


def _on_terminal(image: RomImage, home: Path, keys: str) -> str:
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "emulator", "chat", "--image", str(image.folder)]
    environment = {**os.environ, "HARDWIRED_HOME": str(home), "TERM": "xterm", "COLUMNS": "200"}
    chat = subprocess.Popen(
        [*command, "--max-tokens", "3"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    seen, typed, end = b"", False, time.monotonic() + 120
    while time.monotonic() < end:
        if not select.select([ours], [], [], 1)[0]:
            continue
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other side is closed
            break
        seen += piece
        if not typed and b"\n> " in seen:
            os.write(ours, keys.encode())
            typed = True
    chat.wait(timeout=30)
    os.close(ours)
    assert chat.returncode == 0
    return seen.decode("utf-8", "replace")


def test_better_masks_are_taken_at_new(tiny_image: RomImage, untied_image: RomImage, capsys):
    """Told once when they are ready; the next conversation is on them, and not before."""
    talk = _talk(tiny_image)
    better = _Ready(untied_image.folder)
    talk.look_forward(better)
    better.running = False
    talk.look_at_better()
    talk.look_at_better()
    talk.ask("hi")
    assert talk.image is tiny_image
    talk.restart()
    assert talk.image.folder == untied_image.folder
    assert talk.conversation.chip.image is talk.image
    assert (talk.better, better.ended) == (None, True)
    talk.ask("hi")
    notes = capsys.readouterr().err
    assert notes.count("are ready") == 2  # the promise, and that it is so
    assert notes.count("now in the chip: ") == 1


def test_better_masks_that_failed_are_told_once(tiny_image: RomImage, capsys):
    talk = _talk(tiny_image)
    better = _Ready(tiny_image.folder, ready=False)
    talk.look_forward(better)
    talk.look_at_better()
    assert "could not" not in capsys.readouterr().err
    better.running = False
    talk.look_at_better()
    talk.look_at_better()
    talk.restart()
    assert capsys.readouterr().err.count("could not be made: the disk is full") == 1
    assert talk.image is tiny_image


def _talk(image: RomImage) -> Talk:
    args = Namespace(
        cycles=False, max_tokens=2, system=None, date=None, repeat_guard=False, stop=[],
        pace="host", lora=None,
    )  # fmt: skip
    return Talk(args, image, Sampling())


class _Ready:
    """In place of the process that makes better masks."""

    problem = "the disk is full"

    def __init__(self, folder: Path, ready: bool = True) -> None:
        self.folder, self.running, self.ended = folder, True, False
        self._ready = ready

    @property
    def ready(self) -> bool:
        return self._ready and not self.running

    def end(self) -> None:
        self.ended = True

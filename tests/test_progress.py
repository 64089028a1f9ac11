"""What a waiting user is told: a line at once on a log, an estimate, several things at a time."""

from __future__ import annotations

import time

import pytest

from emulator.terminal import progress as module
from emulator.terminal.progress import Task, progress


def test_lines_without_a_terminal(capfd: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setattr(module, "LINE_S", 0.01)
    with progress("baking", "loaves", about_s=60) as show, progress("cooling"):
        show(0, 40)
        time.sleep(0.2)
        show(37, 40)
        time.sleep(0.2)
    lines = capfd.readouterr().err.splitlines()
    assert any(line.startswith("baking: 0 of 40 loaves, 0 s, about 60 s to go") for line in lines)
    assert any(line.startswith("baking: 37 of 40 loaves, 0 s, about 0 s to go") for line in lines)
    assert "cooling: 0 s" not in lines  # has nothing to add
    time.sleep(0.1)
    assert capfd.readouterr().err == ""


def test_a_thing_without_an_estimate(capfd: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setattr(module, "LINE_S", 0.01)
    with progress("cooling"):
        time.sleep(0.2)
    assert set(capfd.readouterr().err.splitlines()) == {"cooling: 0 s"}


def test_what_is_over_at_once_says_nothing(capfd: pytest.CaptureFixture[str]):
    with progress("baking", "loaves") as show:
        show(1, 1)
    assert capfd.readouterr().err == ""


def test_an_estimate_from_the_speed_so_far():
    """As soon as some of the work is done; before, what was known beforehand."""
    task = Task("baking", "loaves", 60.0, begun=time.monotonic() - 20)
    assert task.left() == "about 40 s to go"
    task.begun -= 60
    assert task.left() == "usually 60 s"
    task.begun += 60
    task.done, task.total = 10, 40
    assert task.left() == "about 60 s to go"
    assert Task("cooling", "", None).left() == ""


def test_a_bar_on_a_terminal(monkeypatch):
    """Rich draws from a thread of its own, and takes the bars away at the end."""
    drawn = module._bars()
    assert drawn is not None
    task = Task("baking", "loaves", 60.0, done=1, total=4)
    drawn.add_task(task.what, total=4, completed=1, unit="loaves", task=task)
    with drawn.console.capture() as screen:
        drawn.console.print(drawn.get_renderable())
    assert "baking" in screen.get()
    assert "1 of 4 loaves" in screen.get()
    assert drawn.live.transient

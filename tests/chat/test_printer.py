"""How an answer is said: the paces, and the lines under it."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.console import Console

from emulator.chat import printer as module
from emulator.chat.answer import CONTEXT, END, Answer
from emulator.chat.printer import Printer, cycles_table, summary
from emulator.chat.text_stream import TextStream

STEP = 0.02  # seconds


def answer(**more) -> Answer:
    cycles = Counter({"fabric_down": 600_000, "attention": 300_000, "top_k": 24})
    return Answer(5, [65, 66, 67], END, cycles, 900_000, 1e9, host_seconds=10.0, **more)


@pytest.mark.parametrize(
    ("pace", "before", "waits"),
    [("host", "ABC", 0), ("readable", "ABC", 3 * STEP), ("chip", "", 0)],
)
def test_paces(monkeypatch, pace, before, waits):
    """The chip's pace keeps the answer until it is whole; waiting is not the host's work."""
    monkeypatch.setattr(module, "READABLE_SECONDS", STEP)
    said: list[str] = []
    printer = Printer(TextStream(lambda ids: bytes(ids).decode()), pace, said.append)
    result = answer()
    assert not any(printer.on_token(token) for token in result.token_ids)
    assert "".join(said) == before
    printer.finish(result)
    assert "".join(said) == printer.stream.text == "ABC"
    assert result.host_seconds <= 10 - waits


def test_a_stop_text_ends_the_answer():
    said: list[str] = []
    printer = Printer(TextStream(lambda ids: bytes(ids).decode(), ["B"]), "host", said.append)
    assert [printer.on_token(65), printer.on_token(66)] == [False, True]
    assert "".join(said) == "A"


def test_summary():
    """2 steps in 24 cycles at 1 GHz; a cut answer says why."""
    result = answer()
    expected = "[chip: 83,333,333 tok/s, 900 us in all, 900,024 cycles (estimate) | host: 10.0 s]"
    assert summary(result) == expected
    result.reason = CONTEXT
    assert summary(result).endswith("| host: 10.0 s | context full]")
    result.drafted, result.accepted = 9, 7
    assert summary(result).endswith("| host: 10.0 s, 7 of 9 drafts right | context full]")
    result.token_ids = [65]
    assert summary(result).startswith("[chip: 900 us in all")


def test_cycles_table():
    """Most first, shares of the sum, bars as long as their share."""
    console = Console(file=io.StringIO(), width=80)
    console.print(cycles_table(answer()))
    lines = console.file.getvalue().splitlines()
    rows = {line.split()[0]: line for line in lines if line.split() and "%" in line}
    assert list(rows) == ["fabric_down", "attention", "top_k"]
    assert "600,000   66.7 %" in rows["fabric_down"]
    bars = [row.count("█") for row in rows.values()]
    assert bars == [module.BAR_WIDTH, module.BAR_WIDTH // 2, 0]
    assert any("900,024" in line for line in lines)

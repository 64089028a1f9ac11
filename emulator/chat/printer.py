"""Show an answer while it is generated, and the lines under it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from emulator.chat.answer import CONTEXT, INTERRUPTED, LOOP, MAX_TOKENS, Answer
from emulator.chat.repeat_guard import RepeatGuard
from emulator.chat.text_stream import TextStream

if TYPE_CHECKING:
    from rich.table import Table

PACES = ("host", "chip", "readable")
READABLE_SECONDS = 0.1  # per token: a little faster than people read
BAR_WIDTH = 30  # characters of the longest bar
CUT = {
    MAX_TOKENS: "cut at --max-tokens",
    CONTEXT: "context full",
    INTERRUPTED: "interrupted",
    LOOP: "ended by --repeat-guard: it went round in a loop",
}


class Printer:
    """Writes an answer at the pace of the host, of the chip, or of a reader."""

    def __init__(
        self,
        stream: TextStream,
        pace: str,
        write: Callable[[str], object],
        guard: RepeatGuard | None = None,
    ) -> None:
        self.stream, self._pace, self._write, self._guard = stream, pace, write, guard
        self._looped = False
        self._pieces: list[str] = []  # kept until the answer is complete, at the chip's pace
        self._waited = 0.0  # seconds

    def on_token(self, token: int) -> bool:
        """Take one token; return true at a stop text, and where the guard sees a loop."""
        piece = self.stream.feed(token)
        if self._pace == "chip":
            self._pieces.append(piece)
        else:
            self._write(piece)
            if self._pace == "readable":
                self._wait(READABLE_SECONDS)
        self._looped = self._guard is not None and self._guard.looped(token)
        return self.stream.stopped or self._looped

    def finish(self, answer: Answer) -> None:
        """Write the rest, and subtract the waiting from the host's time."""
        answer.host_seconds -= self._waited
        for piece in self._pieces:
            self._write(piece)
            self._wait(1 / (answer.tokens_per_second or answer.clock_hz))
        self._write(self.stream.finish())
        answer.text = self.stream.text
        if self._looped and not self.stream.stopped:
            answer.reason = LOOP

    def _wait(self, seconds: float) -> None:
        begin = time.perf_counter()
        time.sleep(seconds)
        self._waited += time.perf_counter() - begin


def summary(answer: Answer) -> str:
    """One line with the chip's time, estimated, and this computer's, measured."""
    rate = f"{answer.tokens_per_second:,.0f} tok/s, " if answer.tokens_per_second else ""
    drafts = f", {answer.accepted} of {answer.drafted} drafts right" if answer.drafted else ""
    cut = f" | {CUT[answer.reason]}" if answer.reason in CUT else ""
    return (
        f"[chip: {rate}{answer.chip_seconds * 1e6:,.0f} us in all, "
        f"{sum(answer.cycles.values()):,} cycles (estimate) | "
        f"host: {answer.host_seconds:.1f} s{drafts}{cut}]"
    )


def cycles_table(answer: Answer) -> Table:
    """Cycles by block, most first, with bars."""
    from rich import box
    from rich.table import Table

    total, most = sum(answer.cycles.values()), max(answer.cycles.values())
    table = Table("block", box=box.SIMPLE_HEAD, show_footer=True)
    table.columns[0].footer = "in all"
    table.add_column("cycles", f"{total:,}", justify="right")
    table.add_column("share", justify="right")
    table.add_column("")
    for name, cycles in answer.cycles.most_common():
        bar = "█" * round(BAR_WIDTH * cycles / most)
        table.add_row(name, f"{cycles:,}", f"{100 * cycles / total:.1f} %", bar)
    return table

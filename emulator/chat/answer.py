"""One answer: what came out, and what it cost on the chip and on this computer."""

from __future__ import annotations

import html
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Why an answer ended:
END = "end"  # the model said so
STOP = "stop"  # `on_token` said so
LOOP = "loop"  # the repeat guard said so
MAX_TOKENS = "max_tokens"
CONTEXT = "context"  # the KV SRAM is full
INTERRUPTED = "interrupted"  # by Ctrl+C or `should_continue`


@dataclass(slots=True)
class Answer:
    """What came out, and what it cost. Cycles are estimates, host seconds are measured."""

    prompt_tokens: int = 0
    token_ids: list[int] = field(default_factory=list)  # the end token included
    reason: str = INTERRUPTED
    cycles: Counter[str] = field(default_factory=Counter)  # by block
    prefill_cycles: int = 0
    clock_hz: float = 1.0
    host_seconds: float = 0.0
    drafted: int = 0  # tokens that ran ahead, see `emulator.chat.drafts`
    accepted: int = 0  # of them, those that were picked
    logits_sha256: str = ""  # of the logits that each token was picked from
    text: str = ""  # up to a stop text; empty if nothing decodes the tokens

    @property
    def chip_seconds(self) -> float:
        """Time on the chip, prompt included (estimate)."""
        return sum(self.cycles.values()) / self.clock_hz

    @property
    def tokens_per_second(self) -> float:
        """Decode rate on the chip (estimate): steps after the first token over their time."""
        steps = len(self.token_ids) - 1
        decode = sum(self.cycles.values()) - self.prefill_cycles
        return steps * self.clock_hz / decode if steps > 0 else 0.0

    @property
    def cycles_by_block(self) -> dict[str, int]:
        """Cycles of prompt and answer by block (estimate), in the order of the datapath."""
        return dict(self.cycles)

    def __str__(self) -> str:
        return self.text

    def plot(self, path: Path | str | None = None) -> Any:
        """Draw cycles by block as a bar chart; return matplotlib's figure, saved to a given `path`.

        Raises UsageError without matplotlib, or if the file cannot be written.
        """
        from emulator.terminal.bars import bar_chart

        title = f"{len(self.token_ids)} tokens in {self.chip_seconds * 1e6:,.0f} us (estimate)"
        return bar_chart(self.cycles_by_block, "cycles", title, path)

    def _repr_html_(self) -> str:
        """The text and a line of figures, for notebooks."""
        return (
            f"<blockquote style='white-space: pre-wrap'>{html.escape(self.text)}</blockquote>"
            f"<p>{self.prompt_tokens} prompt tokens, {len(self.token_ids)} answer tokens "
            f"({html.escape(self.reason)}); chip, estimated: {self.tokens_per_second:,.0f} tok/s, "
            f"{self.chip_seconds * 1e6:,.0f} us, {sum(self.cycles.values()):,} cycles; "
            f"host, measured: {self.host_seconds:.2f} s</p>"
        )

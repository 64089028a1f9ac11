"""Turn tokens into text as they come: whole characters only, and no part of a stop text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"  # what a decoder makes of the first bytes of a character


class TextStream:
    """The text of an answer, token by token. Text once returned is never changed."""

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str] = ()) -> None:
        self.text = ""  # all text returned so far
        self.stopped = False  # at a stop text, which is left out with all that follows
        self.stopped_by: str | None = None  # that stop text
        self._decode = decode
        self._stops = tuple(stops)
        self._ids: list[int] = []  # tokens that end inside a character
        self._held = ""  # perhaps the beginning of a stop text

    @property
    def holding(self) -> bool:
        """Whether some text is still held back."""
        return bool(self._ids or self._held)

    def feed(self, token: int) -> str:
        """Take one token; return the text that can be shown now, often none."""
        self._ids.append(token)
        fresh = self._decode(self._ids)
        if fresh.endswith(UNFINISHED):
            return ""
        self._ids = []
        return self._hand_out(fresh)

    def finish(self) -> str:
        """Return the remaining text after the last token."""
        shown = self._hand_out(self._decode(self._ids))
        held = "" if self.stopped else self._held
        self._ids, self._held = [], ""
        self.text += held
        return shown + held

    def _hand_out(self, fresh: str) -> str:
        """Return the held and fresh text that can no longer belong to a stop text.

        It goes character by character, so that the split into tokens does not matter.
        """
        shown = ""
        for character in fresh:
            if self.stopped:
                break
            self._held += character
            whole = [stop for stop in self._stops if self._held.endswith(stop)]
            if whole:
                self.stopped, self.stopped_by = True, max(whole, key=len)
                shown += self._held[: -len(self.stopped_by)]
            else:
                keep = self._claimed()
                shown += self._held[: len(self._held) - keep]
                self._held = self._held[len(self._held) - keep :]
        self.text += shown
        return shown

    def _claimed(self) -> int:
        """Length of the longest suffix of the held text that begins a stop text."""
        return max(
            (
                n
                for stop in self._stops
                for n in range(1, len(stop))
                if self._held.endswith(stop[:n])
            ),
            default=0,
        )

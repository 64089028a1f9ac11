"""Text as it is said: whole characters, and never a piece of a stop text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.chat.text_stream import TextStream


def decode(ids: list[int]) -> str:
    """A byte is a token."""
    return bytes(ids).decode("utf-8", "replace")


def say(text: str, *stops: str) -> tuple[list[str], TextStream]:
    """Pieces that were shown, a byte at a time, until a stop; the last is from `finish`."""
    stream, pieces = TextStream(decode, stops), []
    for byte in text.encode():
        pieces.append(stream.feed(byte))
        if stream.stopped:
            break
    return [*pieces, stream.finish()], stream


def test_a_character_of_several_tokens_comes_whole():
    pieces, _ = say("aé🦙")
    assert pieces == ["a", "", "é", "", "", "", "🦙", ""]


def test_a_torn_character_at_the_end_is_shown_as_such():
    stream = TextStream(decode)
    assert stream.feed(0xF0) == ""
    assert stream.finish() == stream.text == "\ufffd"


@pytest.mark.parametrize(
    ("text", "stops", "shown", "stopped"),
    [
        ("one two three", ["two"], "one ", True),
        ("one twelve", ["two"], "one twelve", False),
        ("one tw", ["two"], "one tw", False),  # held to the end, then shown
        ("aaab", ["aab"], "a", True),  # the stop text begins inside a failed beginning
        ("ababac", ["abac"], "ab", True),
        ("x\nUser: y", ["User:", "\nUser"], "x", True),
        ("abc", ["b", "abc"], "a", True),  # the one that is whole first
        ("abc", ["c", "abc"], "", True),  # of two that end together the longer one
        ("héllo", ["é"], "h", True),
        ("stop", ["stop"], "", True),
    ],
)
def test_stops(text, stops, shown, stopped):
    _, stream = say(text, *stops)
    assert (stream.text, stream.stopped) == (shown, stopped)


@given(st.text("abc", max_size=12), st.lists(st.text("abc", min_size=1, max_size=3), max_size=3))
def test_any_text(text, stops):
    """What is shown is the text before the first stop text to become whole, and never leaks."""
    ends = {text.find(s) + len(s): text.find(s) for s in sorted(stops, key=len) if s in text}
    pieces, stream = say(text, *stops)
    assert stream.text == "".join(pieces) == (text[: ends[min(ends)]] if ends else text)
    assert stream.stopped == bool(ends)


@given(st.text("abcé", max_size=12), st.lists(st.text("abcé", min_size=1, max_size=3), max_size=2))
def test_the_split_into_tokens_does_not_matter(text, stops):
    stream = TextStream(lambda ids: text if ids else "", stops)
    stream.feed(0)
    stream.finish()
    assert stream.text == say(text, *stops)[1].text

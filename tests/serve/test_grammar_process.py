"""Grammars in processes of their own: what they may take, and what happens beyond."""

from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("llguidance")

from emulator.errors import UnsupportedError
from emulator.serve.body import RequestError
from emulator.serve.grammar import KEPT, Grammars
from emulator.serve.grammar_process import Follower
from tests.support.attacks import COSTLY

REGEX = "[ab]{3}"


@pytest.fixture
def grammars(tiny_image):
    return Grammars(tiny_image.tokenizer_json, tiny_image.config)


def letters(grammars, mask) -> str:
    """The letters that may follow."""
    return "".join(c for c in "abcx" if mask.allowed()[grammars.tokens.tokenize_str(c)[0]])


def test_answers_of_one_grammar_do_not_mix(grammars):
    one, two = (grammars.mask(grammars.regex(REGEX, "x")) for _ in range(2))
    a = grammars.tokens.tokenize_str("a")[0]
    for left in (3, 2, 1):
        assert letters(grammars, one) == "ab", left
        one.took(a)
    assert list(one.allowed().nonzero()[0]) == list(grammars._config.end_ids)
    assert letters(grammars, two) == "ab"


@pytest.mark.parametrize("pattern", COSTLY)
def test_too_costly_a_grammar_is_refused_and_remembered(grammars, pattern):
    for _ in range(3):
        with pytest.raises(RequestError, match=r"guided_regex: .*(takes more than|limit)") as told:
            grammars.regex(pattern, "guided_regex")
        assert told.value.status == 400
        begin = time.monotonic()
    assert time.monotonic() - begin < 1  # the last was known


def test_the_interpreter_is_free_meanwhile(grammars):
    """A thread of this process goes on while a grammar is built until it is stopped."""
    gaps, stop = [], threading.Event()

    def tick():
        last = time.monotonic()
        while not stop.wait(0.01):
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    thread = threading.Thread(target=tick)
    thread.start()
    with pytest.raises(RequestError):
        grammars.regex(COSTLY[0], "x")
    stop.set()
    thread.join()
    assert max(gaps) < 1


def test_a_process_that_went_while_idle_is_made_again(grammars):
    mask = grammars.mask(grammars.regex(REGEX, "x"))
    grammars._kept.popitem()[1]._orders.close()
    assert letters(grammars, mask) == "ab"


def test_a_process_that_breaks_off_in_an_answer_ends_that_answer(grammars):
    mask = grammars.mask(grammars.regex(REGEX, "x"))
    assert mask.allowed().any()
    mask._follower._orders.close()
    with pytest.raises(RequestError, match="cannot be followed: it takes more than 1 s"):
        mask.allowed()


def test_the_nursery_is_started_again(grammars):
    grammars.regex(REGEX, "x")
    grammars._nursery._process.kill()
    grammars._nursery._process.wait()
    assert grammars.regex("c", "x")


def test_few_processes_are_kept(grammars):
    for i in range(KEPT + 3):
        grammars.regex(f"a{{{i + 1}}}", "x")
    assert len(grammars._kept) == KEPT
    first = grammars.regex("a{1}", "x")  # again, and now among the newest
    assert first in grammars._kept


@pytest.mark.parametrize("pattern", ["\ud800", "(((", "a{5,1}", "[z-a]", "(?<=x)y", "\\p{Nope}"])
def test_what_is_no_expression(grammars, pattern):
    with pytest.raises(RequestError, match="guided_regex: "):
        grammars.regex(pattern, "guided_regex")


def test_no_process_to_be_had(grammars, monkeypatch):
    def full(self):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("emulator.serve.grammar_process.Nursery.connection", full)
    with pytest.raises(RequestError, match="Too many open files") as told:
        Follower(grammars._nursery, "x")
    assert told.value.status == 503


def test_a_model_without_an_end(tiny_image):
    from dataclasses import replace

    with pytest.raises(UnsupportedError, match="without an end token"):
        Grammars(tiny_image.tokenizer_json, replace(tiny_image.config, end_ids=()))

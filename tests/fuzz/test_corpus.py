"""The committed corpus of the fuzzer, run as ordinary tests: each file is read or refused."""

from __future__ import annotations

import pytest

from tests.fuzz.fuzz_readers import CORPUS, NAMES, _readers, try_bytes


def test_every_reader_has_a_corpus():
    assert set(_readers()) == set(NAMES) == {folder.name for folder in CORPUS.iterdir()}


@pytest.mark.parametrize("reader", NAMES)
def test_corpus(reader, tmp_path):
    """At least one file is good, and what fuzzing kept is at least not a traceback."""
    files = sorted((CORPUS / reader).iterdir())
    assert any([try_bytes(reader, path.read_bytes(), tmp_path) for path in files])


@pytest.mark.parametrize("reader", NAMES)
def test_cut_anywhere(reader, tmp_path):
    """Each good file cut short at some forty places."""
    for path in sorted((CORPUS / reader).iterdir()):
        data = path.read_bytes()
        for end in range(0, len(data), max(len(data) // 40, 1)):
            try_bytes(reader, data[:end], tmp_path)

"""Talking to the chip on the command line, on a tiny image."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys

import pytest

from tests.support.command_line import Run, process
from weights.rom import RomImage

HEAVY = {"numba", "numpy", "rich", "tokenizers", "safetensors", "gguf", "huggingface_hub"}


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["chat", "--help"], ["nonsense"]])
def test_help_imports_nothing_heavy(words):
    code = (
        "import sys; from emulator.cli import main\n"
        f"try: main({words})\n"
        "except SystemExit: pass\n"
        "print('MODULES', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("MODULES")[2].split())
    assert "emulator" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("command", ["chat", "run", "compile", "models", "info", "eval"])
def test_every_command_is_listed(here: Run, command):
    assert f"    {command} " in here("--help").out
    assert here(command, "--help").status == 0


# --- run --------------------------------------------------------------------------------------


def ask(here: Run, image: RomImage, *words: object) -> dict:
    return here("run", "hi", "--image", image.folder, "--max-tokens", 8, "--json", *words).report


def test_run(here: Run, tiny_image: RomImage):
    """Greedy and the same each time; the parts add up."""
    report = ask(here, tiny_image)
    assert report == {**ask(here, tiny_image), "host": report["host"]}
    assert report["output_tokens"] == len(report["token_ids"]) <= 8
    assert report["reason"] in ("end", "max_tokens")
    assert report["chip"]["cycles"] == sum(report["chip"]["cycles_by_block"].values())
    assert report["sampler"] == {"top_k": 1, "temperature": 1.0, "seed": 0}


def test_a_seed_gives_one_text(here: Run, tiny_image: RomImage):
    def ids(seed: int) -> list[int]:
        words = ("--top-k", 8, "--temperature", 2, "--seed", seed)
        return list(ask(here, tiny_image, *words)["token_ids"])

    assert ids(1) == ids(1)
    assert len({tuple(ids(seed)) for seed in range(4)}) > 1


def test_temperature_0_is_greedy(here: Run, tiny_image: RomImage):
    greedy = ask(here, tiny_image)
    cold = ask(here, tiny_image, "--top-k", 8, "--temperature", 0, "--seed", 3)
    assert cold["logits_sha256"] == greedy["logits_sha256"]
    assert cold["sampler"]["top_k"] == 1


def test_top_p(here: Run, tiny_image: RomImage):
    """All of the weight changes nothing; hardly any leaves the best token alone."""
    words = ("--top-k", 8, "--temperature", 2, "--seed", 1)
    whole = ask(here, tiny_image, *words)
    assert ask(here, tiny_image, *words, "--top-p", 1)["token_ids"] == whole["token_ids"]
    least = ask(here, tiny_image, *words, "--top-p", 1e-9)
    assert least["token_ids"] == ask(here, tiny_image)["token_ids"] != whole["token_ids"]


def test_the_repeat_guard_ends_a_loop(here: Run, tiny_image: RomImage, monkeypatch):
    """A sampler that knows one token: ended, said so, and only with the option."""
    from emulator.chat.sampler import Sampler

    monkeypatch.setattr(Sampler, "pick", lambda self, wires: 7)
    words = ("run", "hi", "--image", tiny_image.folder, "--max-tokens", 40)
    assert here(*words, "--json").report["reason"] == "max_tokens"
    report = here(*words, "--json", "--repeat-guard").report
    assert (report["reason"], report["output_tokens"]) == ("loop", 25)
    assert "loop" in here(*words, "--repeat-guard").out


def test_text_and_summary(here: Run, tiny_image: RomImage):
    """What is streamed is the text of --json; below it the chip's line."""
    text = ask(here, tiny_image)["text"]
    result = here("run", "hi", "--image", tiny_image.folder, "--max-tokens", 8)
    assert result.out.startswith(f"{text}\n[chip: ")
    assert "cycles (estimate) | host: " in result.out


def test_stop_text_is_left_out(here: Run, tiny_image: RomImage):
    """A random model says few letters, so one is looked for."""
    for seed in range(50):
        words = ("--top-k", 8, "--temperature", 2, "--seed", seed)
        text = ask(here, tiny_image, *words)["text"]
        if letters := [c for c in text[1:] if c.isascii() and c.isalpha()]:
            break
    stop = letters[0]
    report = ask(here, tiny_image, *words, "--stop", "no such text", "--stop", stop)
    assert report["text"] == text[: text.index(stop)]
    assert report["reason"] == "stop"


def test_greedy_tells_that_a_seed_does_nothing(here: Run, tiny_image: RomImage):
    result = here("run", "hi", "--image", tiny_image.folder, "--max-tokens", 1, "--seed", 5)
    assert result.status == 0
    assert "--top-k" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--top-k", "0"], "--top-k must be from 1 to 8, not 0"),
        (["--top-k", "9"], "--top-k must be from 1 to 8, not 9"),
        (["--top-k", "two"], "--top-k"),
        (["--temperature", "0.001"], "--temperature"),
        (["--temperature", "nan"], "--temperature"),
        (["--temperature", "-1"], "--temperature"),
        (["--seed", "-1"], "--seed"),
        (["--top-p", "0"], "--top-p must be above 0 and at most 1"),
        (["--top-p", "nan"], "--top-p"),
        (["--max-tokens", "0"], "--max-tokens"),
        (["--stop", ""], "--stop"),
        (["--model", "nothing"], "no model 'nothing'"),
        (["--model", "../nothing"], "no model"),
        (["--image", "/nowhere"], "not a ROM image"),
        (["--unknown"], "--unknown"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("command", [["run", "hello"], ["chat"]], ids=["run", "chat"])
def test_bad_options(here: Run, command, words, message):
    here(*command, *words).refused(message)


def test_a_prompt_longer_than_the_context(here: Run, tiny_image: RomImage):
    here("run", "x" * 100, "--image", tiny_image.folder).refused("64 positions")


# --- chat -------------------------------------------------------------------------------------


def test_chat_reads_a_pipe(tiny_image: RomImage):
    """Line by line, empty ones skipped; bytes that are no text do no harm."""
    words = ("chat", "--image", tiny_image.folder, "--max-tokens", 2, "--cycles")
    result = process(*words, text=b"one\n\n  \n\xff\r\n/new\ntwo")
    assert result.status == 0, result.err
    assert result.out.count("[chip: ") == 3
    assert result.out.count("fabric_down") == 3


def test_chat_goes_on_after_a_full_context(here: Run, tiny_image: RomImage, monkeypatch):
    """Too long for what is left: a new conversation; too long for the chip: one line. Go on."""
    words = ("chat", "--image", tiny_image.folder, "--max-tokens", 2)
    lines = "\n".join(["a" * 25, "b" * 25, "c" * 80, "d"])
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    result = here(*words)
    assert result.status == 0
    assert result.out.count("[chip: ") == 3
    notes = result.err.splitlines()
    assert notes[0].endswith("a new conversation begins]")
    assert notes[-1].startswith("error: a prompt of ")
    assert "64 positions" in notes[-1]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_ends_the_answer_not_the_program(tiny_image: RomImage):
    """Interrupted within the first answer; the second question is answered."""
    for _ in range(5):  # on a busy machine the answer may be over before the signal comes
        answers = _interrupted_chat(tiny_image)
        assert answers.count("[chip: ") == 2
        if answers.count("| interrupted]") == 1:
            return
    pytest.fail("no answer was interrupted")


def _interrupted_chat(image: RomImage) -> str:
    words = ("chat", "--image", image.folder, "--max-tokens", 20, "--pace", "readable")
    command = [sys.executable, "-m", "emulator", *map(str, words)]
    chat = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert chat.stdin is not None
    assert chat.stdout is not None
    chat.stdin.write(b"one\n")
    chat.stdin.flush()
    first = os.read(chat.stdout.fileno(), 1)  # the answer has begun
    chat.send_signal(signal.SIGINT)
    out, _ = chat.communicate(b"two\n", timeout=60)
    assert chat.returncode == 0
    return (first + out).decode("utf-8", "replace")


def test_pace_changes_no_text(here: Run, tiny_image: RomImage, monkeypatch):
    words = ("chat", "--image", tiny_image.folder, "--max-tokens", 6, "--pace")
    texts = set()
    for pace in ("host", "chip", "readable"):
        monkeypatch.setattr("sys.stdin", io.StringIO("one\n"))
        texts.add(here(*words, pace).out.partition("[chip: ")[0])
    assert len(texts) == 1


# --- images -----------------------------------------------------------------------------------

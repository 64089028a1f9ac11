"""The embedded model, as a user meets it: compiled, asked, answered in a process of its own."""

import json
import os
import subprocess
import sys

# Of the greedy answer's logits. It changes with weights.compile.RECIPE, with nothing else.
LOGITS = "485d252c1ab2fb576b756d0efd822620c8e1403ef61f102d2e2fe38d3cbb555c"


def emulator(home, *args, **more):
    environment = {**os.environ, "HARDWIRED_HOME": str(home)}
    command = [sys.executable, "-m", "emulator", *args]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, **more
    )


def test_golden_answer(default_home):
    """The greedy answer, its keys and its cycles; text and logits are exact on every host."""
    result = emulator(default_home, "run", "What is the capital of France?", "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["text"] == "The capital of France is Paris."
    assert report["schema"] == 1
    assert report["prompt_tokens"] == 37
    assert report["output_tokens"] == len(report["token_ids"])
    assert report["chip"]["cycles"] == sum(report["chip"]["cycles_by_block"].values())
    assert report["logits_sha256"] == LOGITS
    assert report["host"]["accepted"] <= report["host"]["drafted"]


def test_a_draft_image_changes_nothing_but_the_time(default_home):
    """The image drafts for itself: all that it drafts is right, up to the answer's end."""
    (image,) = default_home.glob("smollm2-135m-*")
    command = "run", "What is the capital of France?", "--json"
    for draft in (str(image), "none"):
        result = emulator(default_home, *command, "--draft", draft)
        assert result.returncode == 0, result.stderr
        report = json.loads(result.stdout)
        assert (report["text"], report["logits_sha256"]) == (
            "The capital of France is Paris.",
            LOGITS,
        )
    result = emulator(default_home, *command, "--draft", "no-such-image")
    assert result.returncode != 0
    assert "no-such-image" in result.stderr


def test_chat_reads_a_pipe(default_home):
    """Line by line; under each answer a line with the chip's rate."""
    result = emulator(default_home, "chat", input="What is the capital of France?\n")
    assert result.returncode == 0, result.stderr
    assert "Paris" in result.stdout
    assert "tok/s" in result.stdout


def test_a_bad_option_is_one_line(default_home):
    """Exit status 2, no traceback."""
    result = emulator(default_home, "run", "hello", "--max-tokens", "0")
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1].startswith("error: --max-tokens")

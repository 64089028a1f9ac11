"""`import emulator`: what it exports, what it costs, and that the README's Python runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import emulator
from emulator.errors import ChipError, ContextError, UsageError

ROOT = Path(emulator.__file__).parents[1]
EXPORTS = {
    *("Answer", "AnswerStream", "Chip", "ChipSpec", "EmulatorError", "LlamaConfig", "Model"),
    *("cycles", "generate", "load_spec", "open_model"),
}


@pytest.fixture
def model(tiny_image) -> emulator.Model:
    return emulator.open_model(tiny_image.folder)


def test_the_public_names():
    """Whoever adds or takes one away changes this list, and says so in the changelog."""
    assert set(emulator.__all__) == EXPORTS
    assert set(dir(emulator)) >= EXPORTS
    for name in EXPORTS:
        assert getattr(emulator, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'chap'"):
        _ = emulator.chap
    for package in ("emulator", "kernels", "weights"):
        assert (ROOT / package / "py.typed").exists()


def test_the_import_loads_nothing_heavy():
    program = (
        "import sys, emulator\n"
        "heavy = {'numpy', 'numba', 'tokenizers', 'rich', 'huggingface_hub', 'safetensors'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_answer_says_what_it_cost(model):
    answer = model.chat("hi", max_tokens=5)
    again = model.chat([{"role": "user", "content": "hi"}], max_tokens=5)
    assert answer.text == again.text == str(answer)
    assert answer.token_ids == again.token_ids
    assert answer.logits_sha256 == again.logits_sha256
    assert answer.cycles_by_block == again.cycles_by_block
    cycles = sum(answer.cycles_by_block.values())
    assert answer.chip_seconds == cycles / answer.clock_hz
    assert answer.tokens_per_second > 0
    assert str(answer.prompt_tokens) in answer._repr_html_()


def test_html_of_an_answer_is_escaped():
    answer = emulator.Answer(text="<script>alert(1)</script>")
    assert "<script>" not in answer._repr_html_()


def test_a_stream_gives_the_same_text_in_pieces(model):
    whole = model.chat("hi", max_tokens=12)
    stream = model.stream("hi", max_tokens=12)
    assert "".join(stream) == whole.text == stream.answer.text
    assert stream.answer.reason == whole.reason


def test_the_next_answer_ends_a_stream(model):
    """Otherwise both would write into one KV SRAM."""
    alone = model.chat("second", max_tokens=6)
    stream = model.stream("first", max_tokens=40, top_k=8, seed=3)
    next(iter(stream))
    assert len(stream.answer.token_ids) < 40
    assert model.chat("second", max_tokens=6).logits_sha256 == alone.logits_sha256
    assert list(stream) == []
    assert stream.answer.reason == "interrupted"


def test_stop_texts_and_seeds(model):
    long = model.chat("hi", max_tokens=20, top_k=8, seed=3)
    assert model.chat("hi", max_tokens=20, top_k=8, seed=3).text == long.text
    stop = long.text[len(long.text) // 2]
    cut = model.chat("hi", max_tokens=20, top_k=8, seed=3, stop=[stop])
    assert cut.reason == "stop"
    assert cut.text == long.text[: long.text.index(stop)]


def test_a_completion_has_no_chat_format(model):
    answer = model.complete("abc", max_tokens=3)
    assert answer.prompt_tokens == len(model.chat_format.encode("abc"))


@pytest.mark.parametrize(
    ("message", "kind", "options"),
    [
        ("max_tokens must be at least 1", UsageError, {"max_tokens": 0}),
        ("top-k must be from 1 to 8", UsageError, {"top_k": 9}),
        ("a stop text must not be empty", UsageError, {"stop": [""]}),
    ],
)
def test_wrong_options_are_refused(model, message, kind, options):
    with pytest.raises(kind, match=message):
        model.chat("hi", **options)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "the last message of a conversation is the user's"),
        ([{"role": "assistant", "content": "x"}], "the last message of a conversation"),
        ([{"role": "robot", "content": "x"}], "message 0: needs a role of system, developer"),
        ([{"role": "user"}], "message 0: needs a role"),
    ],
)
def test_wrong_messages_are_refused(model, messages, said):
    with pytest.raises(UsageError, match=said):
        model.chat(messages)


def test_a_prompt_that_does_not_fit_is_refused_at_once(model):
    before = list(model.chip.tokens)
    with pytest.raises(ContextError, match="leaves no room in 64 positions"):
        model.stream("x" * 70)
    assert model.chip.tokens == before[: len(model.chip.tokens)]


def test_cycles_without_weights(tmp_path, tiny_checkpoint):
    """By name, config.json, its folder, a config, and of an open model's own chip."""
    by_name = emulator.cycles("smollm2-135m", context=100)
    assert by_name.cycles == sum(by_name.by_block.values())
    tiny = emulator.cycles(tiny_checkpoint, context=10)
    assert tiny.by_block == emulator.cycles(tiny_checkpoint / "config.json", context=10).by_block
    faster = emulator.load_spec().with_value("fabric.lanes", 64)
    assert emulator.cycles("smollm2-135m", context=100, chip=faster).cycles < by_name.cycles
    assert "rms_norm" in by_name._repr_html_()
    with pytest.raises(UsageError, match="the known shapes are"):
        emulator.cycles("llama-9")
    with pytest.raises(UsageError, match="the chip has positions 1 to 6144"):
        emulator.cycles(context=0)
    with pytest.raises(ChipError):
        emulator.cycles(chip=tmp_path / "no.toml")


def test_cycles_of_an_open_model_are_those_of_its_answers(model):
    """The second token of an answer attends to the prompt and the first one."""
    one = model.chat("hi", max_tokens=1)
    two = model.chat("hi", max_tokens=2)
    step = model.cycles(context=one.prompt_tokens + 1)
    assert sum(two.cycles.values()) - sum(one.cycles.values()) == step.cycles


def test_pictures(model, tmp_path):
    answer = model.chat("hi", max_tokens=2)
    assert isinstance(answer.plot(), Figure)
    emulator.cycles().plot(tmp_path / "cycles.svg")
    assert (tmp_path / "cycles.svg").read_text("utf-8").startswith("<?xml")
    with pytest.raises(UsageError, match="cannot be written"):
        answer.plot(tmp_path / "no" / "cycles.svg")


def readme_python() -> str:
    """The README's first code block of Python."""
    text = (ROOT / "README.md").read_text("utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]


def test_the_readmes_first_code_block_runs(default_home):
    """As printed, in a process of its own; what it prints is what the README shows."""
    environment = {**os.environ, "HARDWIRED_HOME": str(default_home)}
    command = [sys.executable, "-c", readme_python()]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert "The capital of France is Paris." in done.stdout


def test_the_notebook_runs(default_home, monkeypatch):
    """docs/notebook.ipynb from top to bottom, and what it shows is in the committed file."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("HARDWIRED_HOME", str(default_home))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    path = ROOT / "docs" / "notebook.ipynb"
    notebook = nbformat.read(path, as_version=4)
    committed = [cell.get("outputs") for cell in notebook.cells if cell.cell_type == "code"]
    assert all(committed), "run docs/make_notebook.py: every cell shows something"
    assert path.stat().st_size < 200_000
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    text = [
        output.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    ]
    assert any("Paris" in part for part in text)

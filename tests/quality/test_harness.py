"""The chip under an evaluation harness: its figures against the chip's own logits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from emulator.chip import Chip
from emulator.errors import ContextError, UsageError
from emulator.quality.evaluate import chip_logits, log_softmax
from emulator.quality.harness import Scorer
from tests.support.paths import ROOT
from tests.support.tiny_model import TINY_CONFIG, TINY_CONTEXT
from weights.rom import RomImage

TASK = Path("tests/data/harness")
BOS = TINY_CONFIG["bos_token_id"]


def request(*args: object) -> SimpleNamespace:
    return SimpleNamespace(args=args)


def token_ids(image: RomImage, text: str) -> list[int]:
    return Scorer(image).chat.encode(text)


def log_p_of(image: RomImage, fed: list[int], targets: list[int]) -> float:
    """ln p of the tokens that follow, on a fresh chip."""
    log_p = log_softmax(chip_logits(Chip(image), (fed + targets)[:-1]))[-len(targets) :]
    return float(sum(row[t] for row, t in zip(log_p, targets, strict=True)))


@pytest.mark.parametrize("context", ["", "The sky", "The sky ", "x" * (2 * TINY_CONTEXT)])
def test_loglikelihood(tiny_image: RomImage, context: str):
    """Every choice from one chip; a long context loses its beginning, never the continuation."""
    choices = [" is blue", " is", " falls", "?"]
    scorer = Scorer(tiny_image)
    answers = scorer.loglikelihood([request(context, choice) for choice in choices])
    for choice, (log_p, _) in zip(choices, answers, strict=True):
        whole = [BOS, *token_ids(tiny_image, context + choice)]
        border = 1 + len(context.rstrip())
        fed = whole[:border][-(TINY_CONTEXT - len(whole[border:]) + 1) :]
        assert log_p == pytest.approx(log_p_of(tiny_image, fed, whole[border:]), abs=1e-9)


def test_greedy_is_told(tiny_image: RomImage):
    """The chip's own answer is greedy, another is not."""
    scorer = Scorer(tiny_image)
    fed = [BOS, *token_ids(tiny_image, "Snow")]
    best = int(Chip(tiny_image).forward(fed).top[0])
    assert scorer._pair(fed, [best])[1]
    assert not scorer._pair(fed, [(best + 1) % 256])[1]


@pytest.mark.parametrize("length", [1, TINY_CONTEXT, TINY_CONTEXT + 1, 2 * TINY_CONTEXT + 9])
def test_rolling(tiny_image: RomImage, length: int):
    """Each token once; the last window is full, whatever is left for it."""
    text = ("The quick brown fox jumps over the lazy dog. " * 4)[:length]
    tokens = token_ids(tiny_image, text)
    fed, expected = [BOS, *tokens], 0.0
    for i in range(0, length, TINY_CONTEXT):
        end = min(i + TINY_CONTEXT, length)
        first = max(0, end - TINY_CONTEXT)
        expected += log_p_of(tiny_image, fed[first : i + 1], tokens[i:end])
    assert Scorer(tiny_image).loglikelihood_rolling([request(text)]) == pytest.approx([expected])


def test_generate(tiny_image: RomImage):
    """Greedy tokens; cut before a stop text; a second request begins anew."""
    scorer, chip = Scorer(tiny_image), Chip(tiny_image)
    fed, greedy = [BOS, *token_ids(tiny_image, "Snow ")], []
    for _ in range(12):
        fed = [int(chip.forward(fed).top[0])]
        greedy += fed
    ends = [i for i, token in enumerate(greedy) if token in scorer.end_ids]
    text = scorer.chat.decode(greedy[: ends[0]] if ends else greedy)
    whole = {"until": [], "max_gen_toks": 12}
    cut = {"until": text[3:5], "max_gen_toks": 12}
    answers = scorer.generate_until([request("Snow ", o) for o in (whole, cut, whole)])
    assert len(text) > 5
    assert answers == [text, text[: text.index(text[3:5])], text]


def test_refused(tiny_image: RomImage):
    scorer = Scorer(tiny_image)
    with pytest.raises(ContextError, match="do not fit"):
        scorer.loglikelihood([request("a", "b" * (TINY_CONTEXT + 1))])
    with pytest.raises(UsageError, match="greedy"):
        scorer.generate_until([request("a", {"do_sample": True, "temperature": 0.7})])
    with pytest.raises(UsageError, match="max_gen_toks"):
        scorer.generate_until([request("a", {"max_gen_toks": TINY_CONTEXT})])


def test_under_the_harness(tiny_image: RomImage, tmp_path: Path):
    """A local task through the harness's command line: its accuracy, and each choice's ln p."""
    pytest.importorskip("lm_eval")
    command = (
        f"{sys.executable} -m emulator.quality.harness run --model hardwired "
        f"--model_args image={tiny_image.folder} --tasks hardwired_questions "
        f"--include_path {TASK} --output_path {tmp_path} --log_samples"
    )
    subprocess.run(command.split(), cwd=ROOT, check=True, capture_output=True)
    (results,) = tmp_path.rglob("results_*.json")
    (samples,) = tmp_path.rglob("samples_*.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    right = []
    for line in lines:
        doc = line["doc"]
        fed = [BOS, *token_ids(tiny_image, doc["question"])]
        expected = [
            log_p_of(tiny_image, fed, token_ids(tiny_image, f" {c}")) for c in doc["choices"]
        ]
        told = [float(response[0]) for response in line["filtered_resps"]]
        assert told == pytest.approx(expected, abs=1e-6)
        right.append(np.argmax(expected) == doc["answer"])
    report = json.loads(results.read_text())["results"]["hardwired_questions"]
    assert len(lines) == 4
    assert report["acc,none"] == pytest.approx(np.mean(right))

"""EleutherAI's evaluation harness over HTTP: it gets the chip's own probabilities."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from emulator.quality.harness import Scorer
from tests.support.paths import ROOT
from tests.support.serve_process import serving
from weights.rom import open_image


def test_twenty_items_over_http(served_image, tmp_path):
    """Each choice's ln p is the one that the chip gives without a server."""
    pytest.importorskip("lm_eval")
    pytest.importorskip("tenacity", reason="could not import lm_eval's extra `api`")
    with serving(served_image) as server:
        settings = (
            f"model=tiny,base_url={server.url}/v1/completions,tokenizer_backend=remote,"
            "tokenized_requests=True,num_concurrent=1,max_retries=1,max_length=250"
        )
        command = (
            f"{sys.executable} -m lm_eval run --model local-completions --model_args {settings} "
            f"--tasks hardwired_twenty --include_path tests/data/harness --output_path {tmp_path} "
            "--log_samples --batch_size 4"
        )
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        done = subprocess.run(
            command.split(), cwd=ROOT, capture_output=True, text=True, env=offline, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
    (samples,) = tmp_path.rglob("samples_*.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    assert len(lines) == 20
    scorer = Scorer(open_image(served_image))
    for line in lines:
        asked = [line["arguments"][key] for key in sorted(line["arguments"])]
        pairs = [SimpleNamespace(args=(one["arg_0"], one["arg_1"])) for one in asked]
        told = [float(response[0]) for response in line["filtered_resps"]]
        before = scorer.chat.encode(line["doc"]["question"])
        expected = [scorer._pair(before, scorer.chat.encode(pair.args[1]))[0] for pair in pairs]
        assert told == pytest.approx(expected, abs=1e-6)

"""The bundle for LLMServingSim: its documented columns, and that a token adds up."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from emulator.errors import UsageError
from emulator.traffic.latency_table import write_bundle

# The order in which their simulator walks a Llama: once, for every layer, once.
LAYER = ("layernorm", "qkv_proj", "rotary_emb", "o_proj", "layernorm", "gate_up_proj", "act_fn",
         "down_proj")  # fmt: skip


@pytest.fixture(scope="module")
def bundles(stages, spec, tmp_path_factory):
    folder = tmp_path_factory.mktemp("perf")
    return {
        h: write_bundle(folder, "llama-3.1-8b", stages, spec, h, None)
        for h in ("serial", "pipelined")
    }


def rows(folder, name: str) -> list[dict[str, str]]:
    with (folder / "tp1" / name).open() as file:
        return list(csv.DictReader(file))


def at(table, **keys) -> float:
    (row,) = [r for r in table if all(r[k] == str(v) for k, v in keys.items())]
    return float(row["time_us"])


def iteration(folder, tokens: int, attention: dict[str, int], layers: int = 32) -> float:
    """us, as their trace generator adds them."""
    dense, sequence = rows(folder, "dense.csv"), rows(folder, "per_sequence.csv")
    layer = sum(at(dense, layer=name, tokens=tokens) for name in LAYER)
    layer += at(rows(folder, "attention.csv"), **attention)
    ends = at(dense, layer="embedding", tokens=tokens)
    ends += at(dense, layer="final_layernorm", tokens=tokens)
    ends += sum(at(sequence, layer=name, sequences=1) for name in ("lm_head", "sampler"))
    return ends + layers * layer


def test_the_documented_columns(bundles):
    for folder in bundles.values():
        assert folder.parts[-3:] == ("meta-llama", "Llama-3.1-8B", "bf16")
        heads = {p.name: p.read_text().splitlines()[0] for p in (folder / "tp1").iterdir()}
        assert heads == {
            "dense.csv": "layer,tokens,time_us",
            "per_sequence.csv": "layer,sequences,time_us",
            "attention.csv": "layer,prefill_chunk,prefill_key,n_decode,kv_decode,decode_q_len,"
            "time_us",
        }
        meta = (folder / "meta.yaml").read_text()
        assert f'hardware: "{folder.parts[-4]}"' in meta
        assert "max_num_batched_tokens: 2048" in meta


def test_every_operation_of_a_llama_is_there(bundles):
    names = {row["layer"] for row in rows(bundles["serial"], "dense.csv")}
    assert names == {*LAYER, "embedding", "final_layernorm"}
    assert {r["layer"] for r in rows(bundles["serial"], "per_sequence.csv")} == {
        "lm_head",
        "sampler",
    }


@pytest.mark.parametrize("history", [16, 1024, 4096])
def test_a_decode_step_adds_up(bundles, times, history):
    """To the chip's own step that attends to the history and its own position."""
    shape = {"prefill_chunk": 0, "prefill_key": 0, "n_decode": 1, "kv_decode": history}
    expected = times["serial"].step_times_ns()[history + 1] / 1000
    for folder in bundles.values():
        # attention leaves no part of a wave behind for the next block: 0.2 % at most
        assert iteration(folder, 1, shape) == pytest.approx(expected, rel=0.002)


@pytest.mark.parametrize("hypothesis", ["serial", "pipelined"])
def test_a_chunk_of_a_prompt_adds_up(bundles, times, hypothesis):
    """512 tokens from nothing on attend to 256 positions on average."""
    shape = {"prefill_chunk": 512, "prefill_key": 256, "n_decode": 0, "kv_decode": 0}
    expected = times[hypothesis].prefill_ns(np.int64(512)) / 1000
    assert iteration(bundles[hypothesis], 512, shape) == pytest.approx(expected, rel=0.01)


def test_an_unknown_deployment(stages, spec, tmp_path):
    with pytest.raises(UsageError, match="--deployment"):
        write_bundle(tmp_path, "llama-3.1-8b", stages, spec, "serial", "1999")

"""A model cut over chips: the same bits as on one, and what time, area and watts it takes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from emulator.blocks.wires import Wires
from emulator.chip import Chip
from emulator.cli import main
from emulator.errors import UnsupportedError, UsageError
from emulator.silicon.spec import load_spec
from emulator.timing.many_chips import cut, rack
from emulator.timing.models import HC1_MIX, MODELS, blank_stages
from emulator.timing.shapes import shape_from_file
from weights.mix import Mix
from weights.rom import RomImage

HC1 = load_spec()
LARGE = blank_stages(MODELS["llama-3.3-70b"], Mix.parse(HC1_MIX))


def test_two_chips_give_the_bits_of_one(either_image: RomImage):
    """Only the residual stream, as bytes, goes from the first chip to the second."""
    whole = Chip(either_image)
    pair = [Chip(either_image), Chip(either_image)]
    parts = cut(pair[0].stages, HC1, either_image.config.hidden, 2).chips
    names = {stage.name for stage in parts[0]}
    first = parts[0]
    second = [stage for stage in pair[1].stages if stage.name not in names]
    assert [len(first), len(second)] == [2, 2]  # embedding and a layer; a layer and the head
    start = 0
    for tokens in ([5, 6, 7], [9], [11]):
        expected = whole.forward(tokens)
        ids = np.array(tokens, np.int64)
        here, there = Wires(ids, start, False), Wires(ids, start, False)
        for stage in first:
            for block in stage.blocks:
                block.run(pair[0].ops, here)
        sent = here.residual.tobytes()
        assert len(sent) == 4 * len(tokens) * either_image.config.hidden
        there.residual = np.frombuffer(sent, np.int32).reshape(len(tokens), -1).copy()
        for stage in second:
            for block in stage.blocks:
                block.run(pair[1].ops, there)
        assert (there.logits == expected.logits).all()
        assert (there.top == expected.top).all()
        start += len(tokens)


def test_70_billion_need_six_chips():
    """As few as keep each within 815 mm2; one fewer would not."""
    found = cut(LARGE, HC1, 8192, None)
    six = rack(found, HC1, 1536)
    assert len(found.chips) == 6
    assert sum(six.layers) == 80
    assert max(six.layers) - min(six.layers) <= 1
    assert max(six.mm2) <= HC1.published.die.value
    assert max(rack(cut(LARGE, HC1, 8192, 5), HC1, 1536).mm2) > HC1.published.die.value


def test_links_cost_time_and_users_fill_it():
    one, six = (rack(cut(LARGE, HC1, 8192, n), HC1, 1536) for n in (1, 6))
    assert one.link_share == 0
    assert 0 < six.link_share < 0.1
    without = one.tokens_per_second * (1 - six.link_share)
    assert six.tokens_per_second == pytest.approx(without, rel=1e-4)  # a norm hides a cycle
    assert six.users == 4
    assert six.users_tokens_per_second == pytest.approx(4 * six.tokens_per_second, rel=0.02)
    slow = HC1.with_value("link.latency", 5.0)
    assert rack(cut(LARGE, slow, 8192, 6), slow, 1536).link_share > 2 * six.link_share


def test_shared_adders_on_many_chips_serve_many_users():
    """Each chip has one set, so users on different chips do not wait for each other."""
    shared = HC1.with_value("fabric.owned", 0)
    found = cut(LARGE, shared, 8192, 6)
    assert len(cut(LARGE, shared, 8192, None).chips) < 6
    served = rack(found, shared, 1536)
    assert served.users_tokens_per_second > 2 * served.tokens_per_second


def test_cuts_that_cannot_be():
    with pytest.raises(UsageError, match="80 layers"):
        cut(LARGE, HC1, 8192, 81)
    giant = replace(MODELS["llama-3.3-70b"], hidden=65536, ffn=1 << 20, head_dim=1024)
    with pytest.raises(UsageError, match="one layer a chip"):
        cut(blank_stages(giant, Mix.parse("6")), HC1, 65536, None)


HUB: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
}
R1 = HUB | {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "v_head_dim": 128,
    "kv_lora_rank": 512,
    "moe_intermediate_size": 2048,
    "num_experts_per_tok": 8,
    "n_shared_experts": 1,
    "n_routed_experts": 256,
    "vocab_size": 129280,
    "quantization_config": {"quant_method": "fp8"},
}


def write(tmp_path, values) -> str:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    return str(path)


def test_any_dense_model(tmp_path, capsys):
    path = write(tmp_path, HUB | {"model_type": "olmo2", "attention_bias": True})
    assert main(["cycles", "--model", path, "--chips", "auto", "--context", "64", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["rows"][0]["tokens_per_second"] > 1000
    assert "note: attention_bias" in captured.err
    assert main(["cycles", "--model", str(tmp_path), "--context", "64"]) == 0


def test_a_family_that_compiles_counts_its_blocks(tmp_path, capsys):
    """Biases are known of Qwen2, so nothing is left out; a key that is not known leaves widths."""
    path = write(tmp_path, HUB)
    assert main(["cycles", "--model", path, "--context", "64", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "bias_qkv" in json.loads(captured.out)["by_block"]
    path = write(tmp_path, HUB | {"altup_active_idx": 1})
    assert main(["cycles", "--model", path, "--context", "64"]) == 0
    assert "only the widths are read, for altup_active_idx = 1" in capsys.readouterr().err


def test_experts_by_what_a_token_meets(tmp_path):
    """DeepSeek R1's eight experts and the shared one, side by side; the limits are named."""
    from pathlib import Path

    config, notes = shape_from_file(Path(write(tmp_path, R1)))
    assert config.ffn == 9 * 2048
    assert (config.head_dim, config.layers) == (128, 61)
    assert any("8 of 256 experts" in note for note in notes)
    assert any("latent attention" in note for note in notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba': shapes are known of"),
        ({"hidden_size": "wide"}, "hidden_size must be"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be"),
        ({"model_type": "mixtral"}, "num_experts_per_tok"),
    ],
)
def test_a_shape_that_is_none(tmp_path, capsys, change, message):
    assert main(["cycles", "--model", write(tmp_path, HUB | change)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_no_file(tmp_path):
    with pytest.raises(UnsupportedError, match="cannot be read"):
        shape_from_file(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--chips", "few"], "write a number, or auto"),
        (["--chips", "0"], "one to a chip"),
        (["--chips", "2", "--users", "2"], "one of them"),
    ],
)
def test_refused(args, message, capsys):
    assert main(["cycles", "--context", "9", *args]) == 2
    assert message in capsys.readouterr().err

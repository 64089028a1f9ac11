"""Adapters read, turned and quantised: the chip with one is the float model with B A added."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emulator.chip import Chip
from emulator.errors import AdapterError, CheckpointError
from emulator.images.adapters import checkpoint_of, load_adapters, read_adapter
from emulator.quality.evaluate import Distance, chip_logits, log_softmax
from emulator.quality.float_model import FloatModel
from emulator.verification.golden import array_digest, logits_digest
from emulator.verification.twins import disagreements
from emulator.verification.vectors import expected, replay, vectors
from kernels import compiled, reference
from tests.support import make_family_reference as families
from tests.support.adapters import write_adapter
from tests.support.tiny_model import write_tiny_checkpoint
from weights.compile import CompileOptions, compile_image
from weights.lora import adapter_for, rotation_seed, turned
from weights.merged import Merged
from weights.mix import Mix
from weights.peft_adapter import open_adapter
from weights.rom import RomImage, open_image
from weights.safetensors_source import SafetensorsCheckpoint

TOKENS = [int(i) for i in np.random.default_rng(3).integers(0, 256, 24)]
GOLDEN = ["5c5755d1a6e2ae13", "f2064993be48f8ab", "271c23175ef51a89"]  # first 16 digits


@pytest.fixture(scope="module")
def tiny_adapter(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All seven matrices, rank 2, strong enough to be heard over the quantiser."""
    model = SafetensorsCheckpoint(tiny_checkpoint).config
    return write_adapter(tmp_path_factory.mktemp("adapters") / "tiny", model, 2, strength=0.5)


def mean_kl(exact: np.ndarray, other: np.ndarray) -> float:
    distance = Distance()
    distance.add(log_softmax(exact), log_softmax(other))
    return distance.report()["kl_mean"]


def test_the_turned_adapter_is_the_adapter(tiny_checkpoint, tiny_adapter):
    """The float model in the chip's basis with A and B turned says what the plain one says."""
    source = SafetensorsCheckpoint(tiny_checkpoint)
    adapter = open_adapter(tiny_adapter, source.config)
    plain = FloatModel.of_checkpoint(source).with_low_rank(adapter.matrices)
    inside = FloatModel.folded(source, 1).with_low_rank(turned(adapter, source, 1))
    one, other = plain.forward(TOKENS), inside.forward(TOKENS)
    assert np.abs(one - FloatModel.of_checkpoint(source).forward(TOKENS)).max() > 0.5
    np.testing.assert_allclose(one, other, atol=2e-3)


def test_the_chip_follows_the_float_model(tiny_image, tiny_checkpoint, tiny_adapter):
    """No farther from it with the adapter than without; far from the model that lacks it."""
    source = SafetensorsCheckpoint(tiny_checkpoint)
    adapter = open_adapter(tiny_adapter, source.config)
    masks = FloatModel.of_image(tiny_image)
    own = turned(adapter, source, rotation_seed(tiny_image))
    adapted = masks.with_low_rank(own)
    chip = Chip(tiny_image, adapters=[adapter_for(tiny_image, source, adapter)])
    floor = mean_kl(masks.forward(TOKENS), chip_logits(chip, TOKENS))
    chip.use("tiny")
    logits = chip_logits(chip, TOKENS)
    with_it = mean_kl(adapted.forward(TOKENS), logits)
    assert with_it < 2 * floor + 1e-4
    assert mean_kl(masks.forward(TOKENS), logits) > 20 * with_it


@pytest.mark.parametrize("family", ["gemma", "granite", "granite_tied"])
def test_an_adapter_meets_the_familys_factors(tmp_path, family):
    """What Granite and Gemma multiply counts for B A as for the weight that they are added to."""
    source = SafetensorsCheckpoint(families.checkpoint(tmp_path / "checkpoint", family))
    folder = write_adapter(tmp_path / "some", source.config, 2, strength=0.3)
    adapter, tokens = open_adapter(folder, source.config), families.tokens()[:24]
    merged = FloatModel.of_checkpoint(Merged(source, adapter)).forward(tokens)
    own = turned(adapter, source, 1)
    inside = FloatModel.folded(source, 1).with_low_rank(own).forward(tokens)
    without = FloatModel.of_checkpoint(source).forward(tokens)
    assert mean_kl(merged, inside) < 1e-5
    assert mean_kl(merged, without) > 0.01
    options = CompileOptions(Mix.parse("6"), families.TOKENS)
    compile_image(source, tmp_path / "image", options)
    image = open_image(tmp_path / "image")
    chip = Chip(image, adapters=[adapter_for(image, source, adapter)])
    chip.use("some")
    adapted = FloatModel.of_image(image).with_low_rank(own).forward(tokens)
    found = mean_kl(adapted, chip_logits(chip, tokens))
    print(f"{family}: {found:.5f} nats")
    assert found < 0.003


def test_the_same_bits_by_any_split_thread_and_twin(
    tiny_image, tiny_checkpoint, tiny_adapter, threads
):
    (adapter,) = load_adapters(tiny_image, [str(tiny_adapter)], tiny_checkpoint)
    whole = Chip(tiny_image, adapters=[adapter])
    whole.use("tiny")
    logits = whole.forward(TOKENS, all_logits=True).logits
    parts = Chip(tiny_image, adapters=[adapter])
    parts.use("tiny")
    cut = [1, 5, 2, 16]
    rest, split = TOKENS, []
    for n in cut:
        split.append(parts.forward(rest[:n], all_logits=True).logits)
        rest = rest[n:]
    np.testing.assert_array_equal(logits, np.concatenate(split))
    if threads == 1:
        twin = Chip(tiny_image, ops=reference, adapters=[adapter])
        twin.use("tiny")
        np.testing.assert_array_equal(twin.forward(TOKENS[:9], all_logits=True).logits, logits[:9])


def test_the_golden_hashes(tiny_image, tiny_checkpoint, tiny_adapter):
    """Of the integers that an adapter becomes, and of the logits that they make."""
    (adapter,) = load_adapters(tiny_image, [str(tiny_adapter)], tiny_checkpoint)
    chip = Chip(tiny_image, adapters=[adapter])
    without = logits_digest(chip)
    chip.use("tiny")
    parts = [adapter.matrices["layers.1.v"].a, adapter.matrices["layers.1.down"].b]
    seen = [array_digest(part)[:16] for part in parts] + [logits_digest(chip)[:16]]
    assert seen == GOLDEN
    chip.use()
    assert logits_digest(chip) == without == logits_digest(Chip(tiny_image))


def test_ranks_and_scalings_by_module(tiny_checkpoint, tmp_path):
    """rsLoRA, alpha and rank patterns give what PEFT gives: alpha / rank, or over its root."""
    model = SafetensorsCheckpoint(tiny_checkpoint).config

    def change(config, held):
        config |= {"use_rslora": True, "lora_alpha": 6}
        config["rank_pattern"] = {"layers.1.self_attn.q_proj": 2}
        config["alpha_pattern"] = {"v_proj": 3}
        for name in held:
            if "layers.1.self_attn.q_proj" in name:
                held[name] = np.ascontiguousarray(
                    held[name][:2] if "_A" in name else held[name][:, :2]
                )

    plain = open_adapter(write_adapter(tmp_path / "plain", model, names=("q", "v")), model)
    other = open_adapter(write_adapter(tmp_path / "other", model, 4, ("q", "v"), change), model)
    for place, factor in {(0, "q"): 3.0, (0, "v"): 1.5, (1, "v"): 1.5}.items():
        np.testing.assert_allclose(other.matrices[place].b, factor * plain.matrices[place].b)
    q = other.matrices[1, "q"]
    assert q.a.shape[0] == 2
    np.testing.assert_allclose(q.b, plain.matrices[1, "q"].b[:, :2] * (6 / 2**0.5), rtol=1e-6)


def test_the_sram_holds_so_much(tiny_image, tiny_checkpoint, tmp_path):
    """Adapters take positions; one too many is refused and nothing changes."""
    small = write_adapter(tmp_path / "small", tiny_image.config, 1, ("q",))
    read = [f"{name}={small}" for name in ("one", "two", "three")]
    adapters = load_adapters(tiny_image, read, tiny_checkpoint)
    chip = Chip(tiny_image)
    taken = adapters[0].stored_bits / chip.position_bits
    contexts = [chip.context]
    for adapter in adapters[:2]:
        chip.load(adapter)
        contexts.append(chip.context)
    assert contexts[1] == contexts[0] - int(np.ceil(taken))
    few = Chip(tiny_image, int(2 * taken + 3), adapters=adapters[:2])
    with pytest.raises(AdapterError, match=r"three takes .* MB of SRAM, and .* MB are left"):
        few.load(adapters[2])
    assert list(few.adapters) == ["one", "two"]
    few.load(adapters[1])  # again: it takes its own place
    few.use("two")
    few.drop("two")
    assert few.adapter == ""
    with pytest.raises(AdapterError, match="no adapter 'two'"):
        few.use("two")


def test_another_adapter_forgets_the_positions(tiny_image, tiny_checkpoint, tiny_adapter):
    """Keys and values belong to the adapter that made them."""
    (adapter,) = load_adapters(tiny_image, [str(tiny_adapter)], tiny_checkpoint)
    chip = Chip(tiny_image, adapters=[adapter])
    chip.forward(TOKENS[:5])
    chip.use("")
    assert chip.position == 5
    chip.use("tiny")
    assert chip.position == 0


def test_names_and_checkpoints_are_checked(
    tiny_image: RomImage, tiny_checkpoint, tiny_adapter, tmp_path
):
    with pytest.raises(AdapterError, match="two adapters are called tiny"):
        load_adapters(tiny_image, [str(tiny_adapter)] * 2, tiny_checkpoint)
    with pytest.raises(AdapterError, match="cannot be called"):
        read_adapter(tiny_image, f"../x={tiny_adapter}")
    with pytest.raises(CheckpointError, match="give --checkpoint"):
        checkpoint_of(tiny_image)
    with pytest.raises(CheckpointError, match="the image was made from"):
        checkpoint_of(tiny_image, write_tiny_checkpoint(tmp_path / "untied", tied=False))
    assert checkpoint_of(tiny_image, tiny_checkpoint).config == tiny_image.config


def test_vectors_and_twins_of_its_blocks(tiny_image, tiny_checkpoint, tiny_adapter):
    """Each block of an adapted chip is replayed from its vector, by kernel and twin."""
    (adapter,) = load_adapters(tiny_image, [str(tiny_adapter)], tiny_checkpoint)
    chip = Chip(tiny_image, adapters=[adapter])
    chip.use("tiny")
    seen = set()
    for vector in vectors(chip, TOKENS[:5], None, 1, 16):
        seen.add(vector.block)
        for backend in (compiled, reference):
            answers = replay(vector, backend)
            for name, array in expected(vector).items():
                np.testing.assert_array_equal(answers[name], array, f"{vector.block}: {name}")
    assert {f"lora_{p}" for p in ("qkv", "o", "gate_up", "down")} <= seen
    assert [what for _, what in disagreements(chip, 3) if what is not None] == []

"""Learning on the tiny model: the loss falls, an interrupted run ends as a whole one does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emulator.errors import UnsupportedError, UsageError
from emulator.timing.known_models import LLAMAS
from kernels.rom.pack import untile_rows
from weights.learned_file import Learned, load
from weights.learned_masks import write_learned
from weights.rom import RomImage, open_image
from weights.safetensors_source import SafetensorsCheckpoint

torch = pytest.importorskip("torch")

from emulator.learning.bits16 import exponentials, raw  # noqa: E402
from emulator.learning.divergence import divergence  # noqa: E402
from emulator.learning.latents import Latents  # noqa: E402
from emulator.learning.make import check, learn_masks, memory_bytes  # noqa: E402
from emulator.learning.plan import Plan  # noqa: E402
from emulator.learning.sampler import sampled  # noqa: E402
from emulator.learning.student import Student, teacher_of  # noqa: E402
from emulator.learning.texts import HELD, Texts, load_texts, save_texts  # noqa: E402
from emulator.learning.train import Learner, begin, learn, mean  # noqa: E402
from emulator.quality.float_model import FloatModel  # noqa: E402

PLAN = Plan(steps=24, batch=8, window=48, group=1e-3, row=1e-3, warm=4, every=8)


@pytest.fixture(scope="module")
def original(tiny_checkpoint: Path) -> FloatModel:
    return FloatModel.folded(SafetensorsCheckpoint(tiny_checkpoint), 1)


@pytest.fixture(scope="module")
def untied_original(untied_image: RomImage) -> FloatModel:
    return FloatModel.folded(SafetensorsCheckpoint(untied_image.folder.parent / "checkpoint"), 1)


def texts() -> Texts:
    rng = np.random.default_rng(0)
    return Texts.of({name: rng.integers(0, 256, (24, 48)) for name in ("one", "two")})


def learner(image: RomImage, original: FloatModel, plan: Plan = PLAN) -> Learner:
    return Learner(Student.of(image), teacher_of(original).model, texts(), plan)


def nothing(done: int, total: int) -> None:
    """No progress to show."""


def learned_by(one: Learner, image: RomImage, state: Path, progress=nothing) -> Learned:
    """From the image's masks on, without rounding them anew."""
    begin(one, image, state, lambda: None)
    return learn(one, image, state, progress)


def test_the_distance_falls(tiny_image: RomImage, original: FloatModel, tmp_path: Path):
    """On what is learned from and on what is held out; and the chip's weights say so too."""
    one = learner(tiny_image, original)
    learned = learned_by(one, tiny_image, tmp_path / "state").save(tmp_path / "file")
    before, rounded, after = learned.about["held_out_kl"].values()
    assert rounded == before
    assert mean(after) < 0.9 * mean(before)
    losses = [loss for _, loss, _ in one.history]
    assert losses[-1] < losses[0]
    write_learned(tiny_image, load(tmp_path / "file"), tmp_path / "image")
    images = (tiny_image, open_image(tmp_path / "image"))
    old, new = (FloatModel.of_image(image) for image in images)
    assert distance(original, new) < distance(original, old)
    assert not (tmp_path / "state").exists()


def distance(one: FloatModel, other: FloatModel) -> float:
    found = []
    for windows in texts().held.values():
        for ids in windows.tolist():
            p, q = (torch.log_softmax(torch.tensor(m.forward(ids)), -1) for m in (one, other))
            found.append(float((p.exp() * (p - q)).sum(-1).mean()))
    return float(np.mean(found))


def test_an_untied_head_is_learned_too(
    untied_image: RomImage, untied_original: FloatModel, tmp_path: Path
):
    one = learner(untied_image, untied_original)
    learned = learned_by(one, untied_image, tmp_path / "state")
    head = untied_image.matrices["head"]
    assert (learned.changes["head"].group_scale != untile_rows(head.group_scale, head.rows)).any()
    assert mean(learned.about["held_out_kl"]["after"]) < mean(one.history[0][2])


def test_interrupted_it_ends_as_a_whole_run(
    tiny_image: RomImage, original: FloatModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The state is saved after every step, and the run is stopped in the seventh."""
    whole = learned_by(learner(tiny_image, original), tiny_image, tmp_path / "a")
    monkeypatch.setattr("emulator.learning.train.SAVE_S", 0.0)

    def stop(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learned_by(learner(tiny_image, original), tiny_image, tmp_path / "b", stop)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    told: list[tuple[int, int]] = []
    again = learner(tiny_image, original)
    rest = learned_by(again, tiny_image, tmp_path / "b", lambda *counts: told.append(counts))
    assert told[0] == (0, PLAN.steps - 6)
    assert rest.save(tmp_path / "rest").digest == whole.save(tmp_path / "whole").digest


def test_a_run_can_be_shortened(tiny_image: RomImage, original: FloatModel, tmp_path: Path):
    """Fewer steps go on from the state of more."""
    one = learner(tiny_image, original)
    one.look()
    for _ in range(6):
        one.advance()
    key = "k"
    one.save(tmp_path / "state", key)
    short = learner(tiny_image, original, replace(PLAN, steps=8))
    assert short.resume(tmp_path / "state", key)
    assert short.step == 6
    assert short.plan.rate(6).group < one.plan.rate(6).group


def test_a_state_of_another_plan_is_left_alone(
    tiny_image: RomImage, original: FloatModel, tmp_path: Path
):
    one = learner(tiny_image, original)
    one.look()
    one.advance()
    one.save(tmp_path / "state", "this one's key")
    other = learner(tiny_image, original)
    assert not other.resume(tmp_path / "state", "another key")
    assert other.step == 0
    assert other.resume(tmp_path / "state", "this one's key")
    assert other.step == 1


def test_no_step_that_makes_it_worse_is_kept(
    tiny_image: RomImage, original: FloatModel, tmp_path: Path
):
    """With steps far too long the masks stay as they were."""
    wild = Plan(steps=4, batch=4, window=48, group=0.9, row=0.9, warm=1, every=1)
    learned = learned_by(learner(tiny_image, original, wild), tiny_image, tmp_path / "s")
    held = learned.about["held_out_kl"]
    assert mean(held["after"]) <= mean(held["before"])


def test_the_forward_pass_is_the_float_model(either_image: RomImage, request):
    """But for bfloat16: the student is the image, the teacher the original."""
    name = "original" if either_image.config.tied else "untied_original"
    original = request.getfixturevalue(name)
    student = Student.of(either_image)
    ids = texts().held["one"][0]
    for model, exact in (
        (student.model, FloatModel.of_image(either_image)),
        (teacher_of(original).model, original),
    ):
        with torch.no_grad():
            x = model.final(model.embed(torch.tensor(ids[None])))
            logits = (x.float() @ model.head.value.T.float()).numpy()
        expected = exact.forward(ids.tolist())
        assert np.abs(logits - expected).max() < 0.05 * np.abs(expected).max()


def test_gradients_are_those_of_the_loss(tiny_image: RomImage, original: FloatModel):
    """Along the gradient of each kind of matrix the loss falls as fast as it says."""
    teacher = teacher_of(original).model
    student = Student.of(tiny_image)
    ids, first = torch.tensor(texts().held["one"]), student.places[0]
    loss = float(student.learn(teacher, ids).mean())
    for name in ("embedding", *(f"layers.1.{n}" for n in ("q", "v", "o", "gate", "up", "down"))):
        gradient = sum(place._of(name, "gradient").float() for place in student.places)
        value = first._of(name, "value")
        old, size = value.clone(), float(gradient.square().sum())
        losses, expected = [], 0.0
        for way in (1, -1):
            value.copy_((old.float() + way * 0.05 * loss / size * gradient).to(torch.bfloat16))
            losses.append(float(student.distance(teacher, ids).mean()))
            expected += way * float(((value.float() - old.float()) * gradient).sum())
        value.copy_(old)
        assert losses[0] - losses[1] == pytest.approx(expected, rel=0.1), name


def test_divergence_and_its_gradient():
    """Against torch in float64."""
    rng = torch.Generator().manual_seed(1)
    wanted, given = (3 * torch.randn(5, 1003, generator=rng) for _ in range(2))
    wanted, given = wanted.to(torch.bfloat16), given.to(torch.bfloat16)
    p, q = (torch.log_softmax(x.double(), -1) for x in (wanted, given))
    kl = divergence(raw(wanted), raw(given), 0.5)
    assert kl == pytest.approx((p.exp() * (p - q)).sum(-1).numpy(), rel=1e-4)
    gradient = 0.5 * (q.exp() - p.exp())
    assert (given.double() - gradient).abs().max() < 0.005 * gradient.abs().max()


def test_exponentials():
    x = np.linspace(-90, 3, 10001).astype(np.float32)
    found = x.copy()
    exponentials(found, np.float32(-80))
    assert found == pytest.approx(np.exp(np.maximum(x, -80)), rel=1e-5)


def test_what_is_made_is_what_is_stored(tiny_image: RomImage, original: FloatModel):
    """Before anything was learned the weights are the image's, to within bfloat16."""
    for name, matrix in tiny_image.matrices.items():
        latent = Latents.of(matrix)
        made = torch.zeros(matrix.rows, matrix.columns, dtype=torch.bfloat16)
        latent.weights(raw(made))
        exact = FloatModel.of_image(tiny_image)
        known = exact.embedding if name == "embedding" else exact.layers[int(name[7])][name[9:]]
        assert np.abs(made.float().numpy() - known).max() <= 0.012 * np.abs(known).max(), name
        assert not latent.moves().any()


def test_own_words(original: FloatModel):
    """Prompts stay, what follows depends on the seed alone."""
    model = teacher_of(original).model
    prompts = [[1, 2, 3], [4], [5, 6]]
    one, same = (sampled(model, prompts, 12, 3) for _ in range(2))
    assert torch.equal(one, same)
    assert [row[: len(p)].tolist() for row, p in zip(one, prompts, strict=True)] == prompts
    assert not torch.equal(one, sampled(model, prompts, 12, 4))


def test_texts_are_kept(tmp_path: Path):
    """As they were, and a pass has as many windows of each kind, none of them held out."""
    made = texts()
    save_texts(tmp_path / "texts", made)
    found = load_texts(tmp_path / "texts")
    assert found is not None
    assert found.digest == made.digest
    assert all(len(windows) == HELD for windows in made.held.values())
    order = {tuple(row) for row in made.order(1).tolist()}
    assert order == {tuple(r) for w in made.learned.values() for r in w.tolist()}
    assert len(made.order(1)) == made.windows
    assert load_texts(tmp_path / "none") is None


def test_what_cannot_be_learned(
    qwen3_image: RomImage,
    tiny_image: RomImage,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Another family's model, masks of another model, and one that is too large."""
    source = SafetensorsCheckpoint(qwen3_image.folder.parent / "checkpoint")
    with pytest.raises(UnsupportedError, match="only plain Llamas"):
        check(source)
    source = SafetensorsCheckpoint(tiny_checkpoint)
    monkeypatch.setitem(tiny_image.manifest["checkpoint"], "name", "another")
    with pytest.raises(UsageError, match="not the masks of"):
        learn_masks(source, tiny_image, tmp_path / "file", PLAN)
    monkeypatch.setattr("emulator.learning.make.installed_bytes", lambda: 1 << 20)
    with pytest.raises(UsageError, match=r"takes at least .* GB, and this computer"):
        check(source)
    assert list(tmp_path.iterdir()) == []


def test_memory_that_learning_takes():
    """8B: its weights many times over, and 97 GB of costs; the small model 3 GB."""
    assert 97e9 < memory_bytes(LLAMAS["llama-3.1-8b"]) - 15 * 8.03e9 < 125e9
    assert 2.5e9 < memory_bytes(LLAMAS["smollm2-135m"]) < 4e9

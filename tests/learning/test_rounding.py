"""What errors cost, and rounding at the least cost, on the tiny model and on small matrices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kernels.rom.pack import PackedMatrix
from weights.quantize import quantise
from weights.rom import RomImage
from weights.safetensors_source import SafetensorsCheckpoint

torch = pytest.importorskip("torch")

from emulator.learning.bits16 import raw  # noqa: E402
from emulator.learning.costs import (  # noqa: E402
    Watched,
    costs_of,
    load_costs,
    save_costs,
    windows_in,
)
from emulator.learning.divergence import draw  # noqa: E402
from emulator.learning.latents import Latents  # noqa: E402
from emulator.learning.llama import Weight  # noqa: E402
from emulator.learning.rounding import INPUT_DAMPING, OUTPUT_DAMPING, Cost, settle  # noqa: E402
from emulator.learning.student import Places, Student, matrices_of, teacher_of  # noqa: E402
from emulator.learning.texts import Texts  # noqa: E402
from emulator.quality.float_model import FloatModel  # noqa: E402

ROWS, COLUMNS = 48, 64
Float32 = np.ndarray


def nothing(done: int, total: int) -> None:
    """No progress to show."""


def texts() -> Texts:
    rng = np.random.default_rng(0)
    return Texts.of({name: rng.integers(0, 256, (24, 48)) for name in ("one", "two")})


@pytest.fixture(scope="module")
def original(tiny_checkpoint: Path) -> FloatModel:
    return FloatModel.folded(SafetensorsCheckpoint(tiny_checkpoint), 1)


@pytest.fixture(scope="module")
def teacher(original: FloatModel) -> Places:
    return teacher_of(original)


def factor(n: int, seed: int) -> Float32:
    """A covariance with strong ties, mean diagonal 1."""
    x = np.random.default_rng(seed).standard_normal((n // 2, n)).astype(np.float32)
    moments = x.T @ x
    return np.ascontiguousarray(moments / np.diag(moments).mean(), np.float32)


def small(bits: int, joint: bool = True) -> tuple[Float32, PackedMatrix, Cost]:
    w = np.random.default_rng(bits).standard_normal((ROWS, COLUMNS)).astype(np.float32)
    outputs = raw(torch.from_numpy(factor(ROWS, 2)).to(torch.bfloat16)) if joint else None
    return w, quantise(w, bits), Cost(factor(COLUMNS, 1), outputs)


def left(w: Float32, latents: Latents, cost: Cost) -> float:
    """What the latents' weights cost, in float64 and from the definition."""
    steps, mantissa, exponent = latents.stored_scales()
    scale = steps * np.ldexp(mantissa.astype(float), -exponent.astype(int))[:, None]
    group = COLUMNS // scale.shape[1]
    codes = latents.start + latents.moves()
    error = w - np.repeat(scale, group, 1) * latents.values[codes]
    inputs = cost.inputs + INPUT_DAMPING * np.eye(COLUMNS)
    outputs = np.eye(ROWS)
    if cost.outputs is not None:
        wide = (cost.outputs.astype(np.uint32) << 16).view(np.float32)
        outputs = wide + OUTPUT_DAMPING * np.eye(ROWS)
    return float(np.trace(outputs @ error @ inputs @ error.T))


@pytest.mark.parametrize("bits", [3, 4, 6])
@pytest.mark.parametrize("joint", [True, False])
def test_settling_lowers_the_cost(bits: int, joint: bool):
    """By what it says, and no code moves by more than a learned file holds."""
    w, matrix, cost = small(bits, joint)
    latents = Latents.of(matrix)
    before = left(w, latents, cost)
    said = settle(matrix, w, cost, latents)
    after = left(w, latents, cost)
    assert after < 0.8 * before
    assert after / before == pytest.approx(said, rel=0.02)  # scales are rounded once more
    assert set(np.unique(latents.moves())) <= {-1, 0, 1}
    assert latents.moves().any()


def test_no_single_code_would_do_better():
    """Moving a code by one level costs more, but for a few that the last round left."""
    w, matrix, cost = small(4)
    latents = Latents.of(matrix)
    settle(matrix, w, cost, latents)
    least, better = left(w, latents, cost), 0
    rng = np.random.default_rng(0)
    for _ in range(300):
        r, c = rng.integers(ROWS), rng.integers(COLUMNS)
        now = int(latents.level[r, c])
        for code in (now - 1, now + 1):
            if 0 <= code < len(latents.values) and abs(code - int(latents.start[r, c])) <= 1:
                latents.level[r, c] = code
                better += left(w, latents, cost) < least * (1 - 1e-6)
        latents.level[r, c] = now
    assert better <= 12  # of about 600


def test_rows_make_good_the_errors_of_others():
    """With the outputs' factor the cost is far lower than where rows stand alone."""
    w, matrix, cost = small(4)
    found = []
    for known in (cost, Cost(cost.inputs, None)):
        latents = Latents.of(matrix)
        settle(matrix, w, known, latents)
        found.append(left(w, latents, cost))
    assert found[0] < 0.8 * found[1]


def test_a_row_of_zeros_stays():
    w, _, cost = small(4)
    w[5] = 0
    matrix = quantise(w, 4)
    latents = Latents.of(matrix)
    settle(matrix, w, cost, latents)
    assert not latents.moves()[5].any()
    assert latents.stored_scales()[1][5] == 0


def test_drawn_tokens_and_their_gradient():
    """Against torch in float64; a chance of 0 takes the first token, and of nearly 1 the last."""
    rng = torch.Generator().manual_seed(1)
    logits = (3 * torch.randn(4, 1003, generator=rng)).to(torch.bfloat16)
    p = torch.softmax(logits.double(), -1)
    chance = np.array([0.0, 0.3, 0.9, 0.9999999], np.float32)
    loud = np.array([1, 2, 0.5, 1], np.float32)
    token = [
        int(np.searchsorted(np.cumsum(row), c)) for row, c in zip(p.numpy(), chance, strict=True)
    ]
    spread = draw(raw(logits), chance, loud)
    assert spread == pytest.approx(1 - p.square().sum(-1).numpy(), rel=1e-4)
    expected = p.clone()
    for row, at in enumerate(token):
        expected[row, at] -= 1
    expected *= torch.from_numpy(loud).double()[:, None]
    assert (logits.double() - expected).abs().max() < 0.005


def test_factors_are_weighted_by_each_other():
    """One fabric pass with two matrices, against the definition in float64."""
    rng = torch.Generator().manual_seed(2)
    x, g = torch.randn(40, 6, generator=rng), torch.randn(40, 5, generator=rng)
    x[0] *= 30  # a massive input that nothing listens to
    g[0] *= 0.01
    x, g = x.to(torch.bfloat16), g.to(torch.bfloat16)
    watched = Watched.of(Weight.empty(5, 6), {"a": 2, "b": 3})
    watched.take(x[:25], g[:25])
    watched.take(x[25:], g[25:])
    X, G = x.double(), g.double()
    for name, part in (("a", slice(0, 2)), ("b", slice(2, 5))):
        own = G[:, part]
        inputs = (X * own.square().mean(1, keepdim=True)).T @ X
        outputs = (own * X.square().mean(1, keepdim=True)).T @ own
        for found, exact in ((watched.inputs, inputs), (watched.outputs, outputs)):
            assert (found[name].double() - exact).abs().max() < 0.02 * exact.abs().max()


def test_costs_say_what_hurts(original: FloatModel, teacher: Places):
    """Of two errors of one size the one that costs more moves the answers more."""
    costs = costs_of(teacher, texts(), 1, nothing)
    assert costs.keys() == matrices_of(original).keys()
    ids = texts().held["one"][0].tolist()
    rng = np.random.default_rng(0)
    for name in ("layers.0.down", "layers.1.v", "layers.1.up"):
        cost, layer, short = costs[name], int(name[7]), name[9:]
        assert np.trace(cost.inputs) == pytest.approx(len(cost.inputs), rel=1e-3)
        ways = np.linalg.eigh(cost.inputs)[1]
        moved = []
        for way in (ways[:, 0], ways[:, -1]):
            w = original.layers[layer][short]
            error = np.outer(rng.standard_normal(len(w)), way).astype(np.float32)
            layers = [dict(each) for each in original.layers]
            layers[layer][short] = w + 0.3 * np.linalg.norm(w) / np.linalg.norm(error) * error
            moved.append(kl(original, replace(original, layers=layers), ids))
        assert moved[1] > 3 * moved[0], name


def kl(one: FloatModel, other: FloatModel, ids: list[int]) -> float:
    p, q = (torch.log_softmax(torch.tensor(m.forward(ids)).double(), -1) for m in (one, other))
    return float((p.exp() * (p - q)).sum(-1).mean())


def test_costs_are_kept(teacher: Places, tmp_path: Path):
    """As they were, as views of a file."""
    told: list[tuple[int, int]] = []
    costs = costs_of(teacher, texts(), 1, lambda *counts: told.append(counts))
    assert told[0] == (0, windows_in(texts()))
    assert told[-1] == (windows_in(texts()),) * 2
    save_costs(tmp_path / "costs", costs)
    found = load_costs(tmp_path / "costs")
    assert found.keys() == costs.keys()
    for name, cost in costs.items():
        assert np.array_equal(found[name].inputs, cost.inputs)
        assert (found[name].outputs is None) == (name == "embedding")
    assert [path.name for path in tmp_path.iterdir()] == ["costs"]


def test_an_interrupt_does_not_wait_for_the_rest(teacher: Places, monkeypatch: pytest.MonkeyPatch):
    drawn = []
    monkeypatch.setattr("emulator.learning.costs.BATCH", 1)
    monkeypatch.setattr(
        "emulator.learning.costs.draw", lambda *given: drawn.append(1) or draw(*given)
    )

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        costs_of(teacher, texts(), 1, stop)
    assert len(drawn) < windows_in(texts()) / 2


def test_a_whole_image_is_settled(tiny_image: RomImage, original: FloatModel, teacher: Places):
    """The answers come nearer on windows that nothing was measured on."""
    student = Student.of(tiny_image)
    ids = torch.from_numpy(np.concatenate(list(texts().held.values())))
    before = float(student.distance(teacher.model, ids).mean())
    costs = costs_of(teacher, texts(), 1, nothing)
    student.settle(tiny_image, matrices_of(original), costs, nothing)
    student.build()
    assert float(student.distance(teacher.model, ids).mean()) < 0.95 * before

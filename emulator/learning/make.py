"""From an image to its learned file: texts, costs, rounding, then all steps of the scales."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.config import LlamaConfig
from emulator.errors import UnsupportedError, UsageError
from emulator.home import home
from emulator.host import cores, installed_bytes
from emulator.terminal.progress import progress
from weights.checkpoint import Checkpoint
from weights.learned_file import Learned
from weights.rom import RomImage, expected_matrices

if TYPE_CHECKING:
    from emulator.learning.llama import Llama
    from emulator.learning.plan import Plan
    from emulator.learning.rounding import Cost
    from emulator.learning.student import Places
    from emulator.learning.texts import Texts, Windows

# A parameter and token, on two cores with bfloat16 matrix units; without them several times that.
SECONDS = 1.6e-11
SAMPLING_SECONDS = 1.2e-11
COST_SECONDS = 1.7e-11
ROUNDING_SECONDS = 1.2e-9  # a parameter and column


def learn_masks(source: Checkpoint, image: RomImage, path: Path, plan: Plan) -> Learned:
    """Write the learned file of an image, which is the checkpoint's; go on with an earlier try.

    The state of a try lies beside the file. Raises as `check`.
    """
    check(source)
    if image.manifest["checkpoint"]["name"] != source.name:
        raise UsageError(f"{image.folder}: not the masks of {source.name}")
    import torch

    from emulator.learning.student import Student, matrices_of, teacher_of
    from emulator.learning.train import Learner, begin, learn
    from emulator.quality.float_model import FloatModel

    with progress("reading the original weights", about_s=20):
        original = FloatModel.folded(source, int(image.manifest["rotation"]["seed"]))
        teacher = teacher_of(original)
        student = Student.of(image)
    texts = _texts(source, teacher.model, plan)
    torch.manual_seed(plan.seed)
    learner = Learner(student, teacher.model, texts, plan)
    state = path.with_name(f".{path.name}.state")

    def settle() -> None:
        costs = _costs(source, teacher, texts, plan)
        about_s = ROUNDING_SECONDS * source.config.parameters * source.config.hidden
        with progress("rounding by cost to the answer", "matrices", about_s) as show:
            student.settle(image, matrices_of(original), costs, show)

    begin(learner, image, state, settle)
    tokens = plan.steps * plan.batch * plan.window
    about_s = SECONDS * source.config.parameters * tokens
    with progress("learning the scales, once", "steps", about_s) as show:
        return learn(learner, image, state, show).save(path)


def need_torch() -> None:
    """Raise UsageError unless torch is installed."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read once; our loops need those cores
    try:
        import torch  # noqa: F401
    except ImportError:
        raise UsageError("learning needs torch: pip install 'torch>=2.4'") from None


def check(source: Checkpoint) -> None:
    """Raise unless this model can be learned here.

    UsageError without torch or memory, UnsupportedError for a model that is no plain Llama.
    """
    c = source.config
    need_torch()
    plain = not (c.biases or c.head_norm or c.unrotated or c.windowed)
    if not plain or c.activation != "silu" or c.turning != c.head_dim:
        raise UnsupportedError(
            "only plain Llamas can be learned: no biases, norms of heads, windows"
        )
    need, have = memory_bytes(c), installed_bytes()
    if have is not None and need > have:
        raise UsageError(
            f"learning the masks of {source.name} takes at least {need / 1e9:,.0f} GB, and this "
            f"computer has {have / 1e9:,.0f}; learn elsewhere, and apply the file with --learned"
        )


def memory_bytes(config: LlamaConfig) -> int:
    """What learning holds at least: the weights in every form, and what their errors cost.

    The original in float32, teacher and student in bfloat16, a gradient for each thread, codes
    before and after, the best so far, and three numbers a group of 32; two factors a matrix.
    """
    matrices = expected_matrices(config).items()
    weights = sum(rows * columns for _, (rows, columns) in matrices)
    tables = ("embedding", "head")  # whose rows cost alike
    factors = sum(c * c + (0 if name in tables else r * r) for name, (r, c) in matrices)
    return int((4 + 2 + 2 + 2 * cores() + 3 + 12 / 32) * weights) + 4 * factors


def _texts(source: Checkpoint, teacher: Llama, plan: Plan) -> Texts:
    """The texts, which are made once for a checkpoint and kept in the cache folder."""
    from emulator.learning.sampler import sampled
    from emulator.learning.texts import OWN, load_texts, save_texts, texts_of

    length = min(plan.window, source.config.context)
    path = home() / f"texts-{source.name}-{source.digest[:8]}-{length}.safetensors"
    if found := load_texts(path):
        return found
    about_s = SAMPLING_SECONDS * source.config.parameters * OWN * length
    with progress("writing the model's own words, once", "tokens", about_s) as show:

        def own(prompts: list[list[int]]) -> Windows:
            found: Windows = sampled(teacher, prompts, length, plan.seed, show).numpy()
            return found

        texts = texts_of(source, own, length)
    save_texts(path, texts)
    return texts


def _costs(source: Checkpoint, teacher: Places, texts: Texts, plan: Plan) -> dict[str, Cost]:
    """What errors cost, which is measured once for a checkpoint and kept in the cache folder."""
    from emulator.learning.costs import costs_of, load_costs, save_costs, windows_in

    path = home() / f"costs-{source.name}-{source.digest[:8]}-{texts.digest[:8]}.safetensors"
    if path.exists():
        return load_costs(path)
    about_s = COST_SECONDS * source.config.parameters * windows_in(texts) * plan.window
    with progress("measuring what errors cost, once", "windows", about_s) as show:
        costs = costs_of(teacher, texts, plan.seed, show)
    save_costs(path, costs)
    return costs

"""The chip as a latency table that LLMServingSim reads, so that it can stand in their clusters.

Their simulator adds up an iteration: the embedding, then for every layer each operation's time for
so many tokens, then the head for so many sequences. The format is their profiler's output bundle:
`<hardware>/<model>/<variant>/` with meta.yaml and tp1/{dense,per_sequence,attention}.csv.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from emulator.chip import Stage
from emulator.errors import UsageError
from emulator.silicon.spec import ChipSpec
from emulator.timing.schedule import token_schedule

# Their names, and the blocks whose cycles they stand for. A residual add goes with the matrix
# before it, a layer's end with its last one; the write of K and V goes with attention.
PER_LAYER = {
    "layernorm": ("rms_norm",),
    "qkv_proj": ("fabric_qkv",),
    "rotary_emb": ("rope",),
    "o_proj": ("fabric_o",),
    "gate_up_proj": ("fabric_gate_up",),
    "act_fn": ("swiglu",),
    "down_proj": ("fabric_down",),
}
ATTENTION = ("kv_sram", "attention")
NORMS = 2  # a layer has two, and their layernorm is the time of one
TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
SEQUENCES = (1, 2, 4, 8, 16, 32)
CHUNKS = (0, *TOKENS)
VARIANT = "bf16"  # what their default flags look for; the chip has 3 and 6 bits
NAMES = {"llama-3.1-8b": "meta-llama/Llama-3.1-8B", "llama-3.2-1b": "meta-llama/Llama-3.2-1B",
         "llama-3.2-3b": "meta-llama/Llama-3.2-3B"}  # fmt: skip


def write_bundle(
    folder: Path,
    model: str,
    stages: list[Stage],
    spec: ChipSpec,
    hypothesis: str,
    deployment: str | None,
) -> Path:
    """Write the bundle of one prefill hypothesis; the folder that holds meta.yaml.

    Raises UsageError where it cannot be written.
    """
    name = deployment or next(iter(spec.deployment))
    if name not in spec.deployment:
        raise UsageError(f"--deployment {name}: the chip has {', '.join(spec.deployment)}")
    hardware = f"{spec.name.upper()}-{hypothesis}"
    root = folder / hardware / NAMES.get(model, model) / VARIANT
    bundle = Bundle(stages, spec, hypothesis, spec.deployment[name].decode_step.value)
    files = {
        "meta.yaml": _meta(hardware, NAMES.get(model, model), spec),
        "tp1/dense.csv": ["layer,tokens,time_us", *bundle.dense()],
        "tp1/per_sequence.csv": ["layer,sequences,time_us", *bundle.per_sequence()],
        "tp1/attention.csv": [
            "layer,prefill_chunk,prefill_key,n_decode,kv_decode,decode_q_len,time_us",
            *bundle.attention(),
        ],
    }
    try:
        (root / "tp1").mkdir(parents=True, exist_ok=True)
        for file, lines in files.items():
            temporary = root / f"{file}.{os.getpid()}.tmp"
            temporary.write_text("\n".join(lines) + "\n", "utf-8")
            temporary.replace(root / file)
    except OSError as error:
        raise UsageError(f"--latency-table {folder}: {error.strerror}") from None
    return root


class Bundle:
    """The tables of one chip under one hypothesis; every line is `keys,time_us`."""

    def __init__(
        self, stages: list[Stage], spec: ChipSpec, hypothesis: str, step_us: float
    ) -> None:
        self._stages, self._spec, self._step_us = stages, spec, step_us
        self._layers = sum(stage.layer is not None for stage in stages)
        self._pipelined = hypothesis == "pipelined"
        self._known: dict[int, dict[str, dict[str, int]]] = {}

    def dense(self) -> Iterable[str]:
        """Time of one layer's operation for so many tokens of one iteration."""
        parts = self._cycles(1)
        own = {name: parts["layer 0"].get(blocks[0], 0) for name, blocks in PER_LAYER.items()}
        own["layernorm"] /= NORMS  # type: ignore[assignment]
        # The two residual adds follow o and down.
        for name in ("o_proj", "down_proj"):
            own[name] += parts["layer 0"]["residual_add"] / 2  # type: ignore[assignment]
        own["down_proj"] += parts["layer 0"]["sequencer"]
        for tokens in TOKENS:
            yield f"embedding,{tokens},{self._us(parts['embedding']['embedding'] * tokens)}"
            yield f"final_layernorm,{tokens},{self._us(parts['head']['rms_norm'])}"
            for name, cycles in own.items():
                yield f"{name},{tokens},{self._us(cycles * self._turns(tokens))}"

    def per_sequence(self) -> Iterable[str]:
        """Head, and the sampler with what the deployment adds to a step."""
        head = self._cycles(1)["head"]
        rest = sum(c for name, c in head.items() if name not in ("rms_norm", "fabric_head"))
        for count in SEQUENCES:
            yield f"lm_head,{count},{self._us(head['fabric_head'] * count)}"
            yield f"sampler,{count},{self._us(rest * count, self._step_us * count)}"

    def attention(self) -> Iterable[str]:
        """One layer's attention: a chunk of a prompt, decoding sequences, or both."""
        most = int(self._spec.kv_sram.positions)
        histories = [n for n in (16 << i for i in range(20)) if n < most] + [most - 1]
        for chunk in CHUNKS:
            keys = [0] if chunk == 0 else histories
            for count in (0, *SEQUENCES):
                if chunk == 0 and count == 0:
                    continue
                for key in keys:
                    for history in [0] if count == 0 else histories:
                        decode = count * self._attention(history + 1) if count else 0
                        prefill = self._attention(max(key, 1)) * self._turns(chunk) if chunk else 0
                        time = self._us(prefill + decode)
                        yield f"attention,{chunk},{key},{count},{history},1,{time}"

    def _attention(self, context: int) -> int:
        layer = self._cycles(context)["layer 0"]
        return sum(layer[name] for name in ATTENTION)

    def _turns(self, tokens: int) -> float:
        """How often a layer's time is paid for so many tokens, averaged over the layers.

        Serial, once a token. Pipelined, the first token fills all layers and each other one adds
        one layer's time to the whole.
        """
        if not self._pipelined:
            return tokens
        return (tokens + self._layers - 1) / self._layers

    def _cycles(self, context: int) -> dict[str, dict[str, int]]:
        """Cycles by stage and block."""
        if context not in self._known:
            stages: dict[str, dict[str, int]] = {}
            for part in token_schedule(self._stages, self._spec, context):
                blocks = stages.setdefault(part.stage.name, {})
                for step in part.steps:
                    blocks[step.block.name] = blocks.get(step.block.name, 0) + step.cycles
            self._known[context] = stages
        return self._known[context]

    def _us(self, cycles: float, added: float = 0.0) -> str:
        return f"{cycles / self._spec.clock_hz * 1e6 + added:.6g}"


def _meta(hardware: str, model: str, spec: ChipSpec) -> list[str]:
    return [
        'profiler_version: "synthetic-v1"',
        'vllm_version: "n/a"',
        f'gpu: "{spec.name}, cycle-approximate model"',
        f'hardware: "{hardware}"',
        f'variant: "{VARIANT}"',
        f'model: "{model}"',
        "tp_degrees: [1]",
        'profiled_at: "n/a"',
        "engine_effective:",
        f"  max_num_batched_tokens: {TOKENS[-1]}",
        f"  max_num_seqs: {SEQUENCES[-1]}",
    ]

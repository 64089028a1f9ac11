"""OpenVINO GenAI's side of `benchmarks.peers`: a process that answers one line with one line.

    python openvino_peer.py MODEL.gguf THREADS

It runs where openvino-genai is installed and needs nothing of this project. The lines are those of
`llama_peer.py`. Times are GenAI's own: to the first token, which it also picks, and the mean from
one token to the next. No prompt begins like one before, since GenAI would reuse its keys.
"""

from __future__ import annotations

import sys

import numpy as np
import openvino
import openvino_genai as genai


def main() -> None:
    path, threads = sys.argv[1], int(sys.argv[2])
    pipeline = genai.LLMPipeline(path, "CPU", INFERENCE_NUM_THREADS=threads)
    vocabulary = pipeline.get_tokenizer().get_vocab()
    rng = np.random.default_rng(0)

    def generate(prompt: int, tokens: int) -> genai.PerfMetrics:
        options = genai.GenerationConfig()
        options.max_new_tokens = options.min_new_tokens = tokens
        options.ignore_eos, options.apply_chat_template = True, False
        ids = rng.integers(0, len(vocabulary), (1, prompt))
        inputs = genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        return pipeline.generate(inputs, options).perf_metrics

    generate(8, 2)
    print("ready", flush=True)
    for line in sys.stdin:
        what, *amounts = line.split()
        first, *rest = map(int, amounts)
        if what == "prefill":
            milliseconds = generate(first, 1).get_ttft().mean
        else:
            milliseconds = generate(first, rest[0] + 1).get_tpot().mean
        print(milliseconds / 1e3, flush=True)


if __name__ == "__main__":
    main()

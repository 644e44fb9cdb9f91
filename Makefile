# make run | test | app | check | kernels | bench | setup        (Python 3.11+ and make are all it takes)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)

ifdef UV
CREATE = uv venv --quiet --allow-existing --python $(PYTHON) $(VENV)
INSTALL = uv pip install --quiet --python $(BIN)/python --constraint constraints.txt
else
CREATE = $(PYTHON) -m venv $(VENV) || { echo "make: python's venv is missing; on Debian: apt install python3-venv"; exit 1; }
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
endif

.PHONY: run test app check kernels bench setup format lint types contracts clean

run: $(VENV)/.base
	$(BIN)/moe-planner plan scenarios/deepseek-r1-day.yaml --html build/deepseek-r1-day.html

setup: $(VENV)/.base

test: $(VENV)/.dev
	$(BIN)/python -m pytest

app: $(VENV)/.app
	$(BIN)/moe-planner app

check: format lint types contracts test

format: $(VENV)/.dev
	$(BIN)/ruff format --check .

lint: $(VENV)/.dev
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

kernels: $(VENV)-kernels/.made     # Triton's, without a GPU: interpreted and compiled; installs 5 GB
	$(VENV)-kernels/bin/python -m pytest tests/calibrate_runner/test_triton.py

bench: $(VENV)/.base
	$(BIN)/python scripts/bench_serving.py
	$(BIN)/python scripts/bench_step.py

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: needs Python 3.11 or newer (PYTHON=python3.12 make ...)"; exit 1; }
	$(CREATE)
	@touch $@

$(VENV)/.base: $(VENV)/.python pyproject.toml constraints.txt
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.app: $(VENV)/.python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[app]'
	@touch $@ $(VENV)/.base

$(VENV)/.dev: $(VENV)/.python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[app,dev]'
	@touch $@ $(VENV)/.base $(VENV)/.app

$(VENV)-kernels/.made: $(VENV)/.python pyproject.toml
	$(PYTHON) -m venv $(VENV)-kernels
	$(VENV)-kernels/bin/python -m pip install --quiet --disable-pip-version-check \
	  --editable '.[gpu,dev]' 'torch==2.11.*' 'triton==3.6.*' 'numpy<2.4'
	@touch $@

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint types deepsparse clean

help:  ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 10

setup: $(READY)  ## .venv with everything for development (about three minutes, once)

$(READY): pyproject.toml constraints.txt
	@echo "setting up $(VENV) with $(PYTHON): about three minutes and 3 GB, once"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev,deploy]'
	@touch $@

demo: setup  ## all 69 cells, small, on generated data; then the report
	@$(BIN)/obert-sweeps run preset=demo

test: setup  ## the tests, without the slow ones (up to four processes)
	@$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

lint: setup  ## style, format and the arrows between modules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: setup  ## mypy
	@$(BIN)/mypy

check: lint types test  ## all that CI runs: lint, types, the tests and the slow tests
	@$(BIN)/python -m pytest -m 'slow and not gpu and not net' -n 2 --dist loadfile

deepsparse: .venv-deepsparse/.ready  ## DeepSparse's own environment (its licence: evaluation only)

.venv-deepsparse/.ready: constraints-deepsparse.txt
	@echo "DeepSparse Community License: evaluation in development and testing only, no production."
	@echo "Installing it accepts that licence; its text comes with the package. Analytics stay off."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info > (3, 12) and "DeepSparse 1.8.0 needs Python 3.11 or older: make deepsparse PYTHON=python3.11")'
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check -c constraints-deepsparse.txt deepsparse
	@NM_DISABLE_ANALYTICS=1 $(@D)/bin/python -c 'import deepsparse; print("DeepSparse", deepsparse.__version__)'
	@touch $@

clean:  ## caches and build outputs (not .venv, not runs/)
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	@find obert_sweeps tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

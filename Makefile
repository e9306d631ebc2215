# Two commands for a fresh machine: `make demo` and `make test`. Both make .venv here and install into it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The matrices of the solvers are small: threads of the linear algebra library only get in each other's way.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
WORKERS ?= 2

.PHONY: help demo test lint types notebooks sample clean

help:  ## What can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/.base: pyproject.toml
	@echo "== virtual environment in $(VENV), package and base dependencies"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@echo "== test dependencies"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(VENV)/.base  ## Audit, project and audit again the bundled predictions; results in demo/
	@echo "== demo: results go to demo/"
	@$(BIN)/feasible demo --out demo/

lint: $(VENV)/.dev  ## ruff
	@echo "== lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## mypy
	@echo "== types"
	@$(BIN)/mypy

test: lint types  ## Lint, types and tests
	@echo "== tests on $(WORKERS) processes"
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --nbmake tests notebooks

notebooks: $(VENV)/.dev  ## Execute notebooks/*.py again and write them, with their outputs, as .ipynb
	@$(BIN)/jupytext --quiet --to ipynb notebooks/*.py
	@$(BIN)/python -m pytest --nbmake --overwrite notebooks

sample: $(VENV)/.dev  ## Train the small network again whose predictions are the bundled sample
	@$(BIN)/python benchmarks/train_sample.py

clean:  ## Remove the environment and what was built
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

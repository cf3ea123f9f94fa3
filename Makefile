# Two commands: `make quickstart` and `make test`. Both set up everything they need in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# What the tests last passed with, all of it: what was tested is what these two commands install.
CONSTRAINTS ?= constraints.txt

.PHONY: quickstart test slow lint constraints test-latest clean

quickstart: $(VENV)/.ready
	$(BIN)/python scripts/quickstart.py

test: lint
	$(BIN)/python -m pytest -m "not slow" --numprocesses auto --maxprocesses 4 --dist loadfile

slow: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet $(addprefix --constraint ,$(CONSTRAINTS)) --editable .
	touch $@

$(VENV)/.ready-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet $(addprefix --constraint ,$(CONSTRAINTS)) --editable ".[dev]"
	touch $@ $(VENV)/.ready

# The newest releases that pyproject.toml allows, in an environment of its own: how a ceiling is raised (CONTRIBUTING.md).
test-latest:
	$(MAKE) test VENV=.venv-latest CONSTRAINTS=

# Writes constraints.txt from an environment that has passed: make constraints VENV=.venv-latest
constraints: $(VENV)/.ready-dev
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt.new
	mv constraints.txt.new constraints.txt

clean:
	rm -rf $(VENV) .venv-latest runs workbench easy_vqa

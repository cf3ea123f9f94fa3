# Two commands: `make quickstart` and `make test`. Both set up everything they need in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests in a process a core, those of one file in one process.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile

# What the tests last passed with, all of it: what was tested is what these two commands install.
CONSTRAINTS ?= constraints.txt

.PHONY: quickstart test slow soak audit lint constraints test-latest test-torchvision clean

quickstart: $(VENV)/.ready
	$(BIN)/python scripts/quickstart.py

test: lint
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

# Where time is limited, what would begin later than a second since 1970 is skipped: make slow SLOW="--deadline 1790000000"
slow: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m slow $(PARALLEL) $(SLOW)

# Hours: random kills, long runs, damaged and hostile input; ends with the table of what is promised and what held.
# For some of it, or less: make soak SOAK="--kills 20 --parts kill_soak"
soak: $(VENV)/.ready-dev
	$(BIN)/python scripts/soak/soak.py $(SOAK)

# Advisories about the pinned packages, by pip-audit in an environment of its own; needs the network.
audit:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet pip-audit
	.venv-audit/bin/python scripts/audit.py

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

# Compiled here by every core, where pip compiles on one. Never left to the first import: where PYTHONDONTWRITEBYTECODE is
# set, as in many container images, each process would compile all that it imports, which takes longer than its work.
# A package may bring a file for a newer Python, which does not compile and is not imported.
define INSTALL
$(BIN)/python -m pip install --quiet --no-compile $(addprefix --constraint ,$(CONSTRAINTS)) --editable $(1)
$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib vlm_lit || true
endef

$(VENV)/.ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(call INSTALL,.)
	touch $@

$(VENV)/.ready-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(call INSTALL,".[dev]")
	touch $@ $(VENV)/.ready

# The newest releases that pyproject.toml allows, in an environment of its own: how a ceiling is raised (CONTRIBUTING.md).
test-latest:
	$(MAKE) test VENV=.venv-latest CONSTRAINTS=

# With torchvision installed, and with the newest torch that pyproject.toml allows: an environment of its own, of 5.6 GB.
# The two versions belong together; they come for x86-64 and Python 3.11, and everything else is as constrained.
TORCHVISION ?= torch==2.14.1 torchvision==0.29.1
test-torchvision:
	$(MAKE) .venv-torchvision/bin/python VENV=.venv-torchvision
	.venv-torchvision/bin/python -m pip install --quiet $(TORCHVISION)
	grep -v '^torch==' constraints.txt > .venv-torchvision/constraints.txt
	.venv-torchvision/bin/python -m pip install --quiet --constraint .venv-torchvision/constraints.txt --editable ".[dev]"
	.venv-torchvision/bin/python -m pytest -m "not slow" $(PARALLEL)

# Writes constraints.txt from an environment that has passed: make constraints VENV=.venv-latest
constraints: $(VENV)/.ready-dev
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt.new
	mv constraints.txt.new constraints.txt

clean:
	rm -rf $(VENV) .venv-latest .venv-torchvision runs workbench easy_vqa

# `make demo` and `make test` each work first and alone on a machine with Python 3.11 or newer.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test check static tests docs format tables clean

help:    ## List the targets
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)    ## Train and compare recommenders on a generated shop (five minutes)
	$(BIN)/redraft demo --replace

test: check    ## What CI runs: everything

check: static tests docs    ## Format, lint, types, import contracts, tests, documentation

static: $(READY)    ## Format, lint, types and import contracts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

tests: $(READY)    ## Tests alone
	$(BIN)/pytest -n 2

docs: $(READY)    ## The documentation as pages in docs/_build
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build

format: $(READY)    ## Rewrite the code in the house's format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

tables: $(READY)    ## Write the tables of README.md and docs/ from results/
	$(BIN)/redraft bench documents

clean:    ## Remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

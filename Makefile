# make demo   set up and start a gateway to try; make test: everything that is checked.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV := .venv
PYTHON_BIN := $(VENV)/bin/python
RUN_STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-test
BENCH_STAMP := $(VENV)/.installed-bench
SET_UP := pyproject.toml requirements/constraints.txt scripts/make-venv.sh
DEMO_ARGS ?=
PYTEST_ARGS ?=
WORKERS ?= 2

KILLS ?= 10000
POWER ?= 500
SEED ?=

FUZZ_SECONDS ?= 3600
BENCHES := bench/vault.py bench/webdav.py bench/sftp.py

.PHONY: help demo test lint format coverage bench bench-packages crash fuzz clean check-bare test-packages

help: ## Say what can be made.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(RUN_STAMP): $(SET_UP)
	@scripts/make-venv.sh
	@touch $@

$(TEST_STAMP): $(SET_UP)
	@scripts/make-venv.sh test
	@touch $(RUN_STAMP) $@

demo: $(RUN_STAMP) ## Set up .venv, install, and start the demo gateway.
	@exec $(VENV)/bin/sealgate demo $(DEMO_ARGS)

test-packages:
	@scripts/test-packages.sh

test: $(TEST_STAMP) test-packages lint ## Set up what the tests need; lint, types, tests.
	@$(PYTHON_BIN) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(TEST_STAMP) ## Style, format and types.
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy gateway auth backends tests $(wildcard bench/*.py)

format: $(TEST_STAMP) ## Put every file into the house format.
	@$(VENV)/bin/ruff format .

coverage: $(TEST_STAMP) ## The tests again, with branch coverage.
	@$(PYTHON_BIN) -m pytest -n $(WORKERS) --dist loadfile --cov --cov-report=term $(PYTEST_ARGS)

bench-packages:
	@scripts/bench-packages.sh

$(BENCH_STAMP): $(TEST_STAMP)
	@scripts/make-venv.sh bench
	@touch $@

bench: $(BENCH_STAMP) bench-packages ## Compare with peers on this machine.
	@for script in $(BENCHES); do \
	    echo "== $$script"; PYTHONPATH=. $(PYTHON_BIN) "$$script" || exit; \
	done

fuzz: $(TEST_STAMP) ## Attack the parsers for as long as wanted. FUZZ_SECONDS=, SEED=.
	@$(PYTHON_BIN) -m tests.fuzz.campaign --seconds $(FUZZ_SECONDS) $(if $(SEED),--seed $(SEED))

crash: $(TEST_STAMP) test-packages ## As root: kill and cut the power for hours, lose nothing. KILLS=, POWER=, SEED=.
	@$(PYTHON_BIN) -m tests.crash.campaign --kills $(KILLS) --power $(POWER) --full 3000 --faults 3000 $(if $(SEED),--seed $(SEED))

check-bare: ## As root: demo and tests on a bare Debian 12 made with debootstrap.
	@scripts/check-bare-debian.sh

clean: ## Remove what was made here (not demo data).
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# make demo   set up and start a gateway to try; make test: everything that is checked.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV := .venv
PYTHON_BIN := $(VENV)/bin/python
RUN_STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-test
SET_UP := pyproject.toml requirements/constraints.txt scripts/make-venv.sh
DEMO_ARGS ?=
PYTEST_ARGS ?=
WORKERS ?= 2

KILLS ?= 10000
POWER ?= 500
SEED ?=

.PHONY: help demo test lint format coverage bench crash clean check-bare test-packages

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
	@$(PYTHON_BIN) -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: $(TEST_STAMP) ## Style, format and types.
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy gateway auth backends tests $(wildcard bench/*.py)

format: $(TEST_STAMP) ## Put every file into the house format.
	@$(VENV)/bin/ruff format .

coverage: $(TEST_STAMP) ## The tests again, with branch coverage.
	@$(PYTHON_BIN) -m pytest -n $(WORKERS) --dist loadfile --cov --cov-report=term $(PYTEST_ARGS)

bench: $(TEST_STAMP) ## Compare with peers on this machine.
	@found=0; for script in bench/vault.py bench/bench_*.py; do \
	    [ -e "$$script" ] || continue; found=1; echo "== $$script"; \
	    case "$$script" in *.py) PYTHONPATH=. $(PYTHON_BIN) "$$script";; *) "$$script";; esac || exit; \
	done; [ $$found = 1 ] || echo "bench/ holds no script yet."

crash: $(TEST_STAMP) test-packages ## As root: kill and cut the power for hours, lose nothing. KILLS=, POWER=, SEED=.
	@$(PYTHON_BIN) -m tests.crash.campaign --kills $(KILLS) --power $(POWER) --full 3000 --faults 3000 $(if $(SEED),--seed $(SEED))

check-bare: ## As root: demo and tests on a bare Debian 12 made with debootstrap.
	@scripts/check-bare-debian.sh

clean: ## Remove what was made here (not demo data).
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

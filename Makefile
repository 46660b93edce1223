# `make run` and `make test` do everything from a bare checkout; `make` lists the rest.
#
# The environment, .venv, has parts: the locked libraries, this project on top as an editable
# install, and what only development or a GPU needs. A part's stamp is written when it is whole.

PYTHON ?= python3
ARGS   ?=

VENV    := .venv
LOG     := $(VENV)/install.log
INSTALL := $(VENV)/bin/python -m pip --disable-pip-version-check install --compile --progress-bar off
# The lock is named twice: as a constraint it also holds what a library asks for with extras, as in
# name[extra], to the pin of that name; pip 23 otherwise looks for the newest.
LOCKED   = --require-hashes -r $< -c $<
TO_LOG  := >> $(LOG) 2>&1 || { tail -n 5 $(LOG); echo "Not installed; more is in $(LOG)."; exit 1; } >&2
UNFIT   := { echo "This needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is another or missing." \
             "Name one that you have: make PYTHON=/usr/bin/python3.12 ..." >&2; exit 1; }

# The tests on all cores (tests/conftest.py says how), by four processes at most: each takes 2 GB.
# ARGS="-n 0" runs them in one.
PARALLEL := --numprocesses logical --maxprocesses 4

# Without compiled bytecode every start of Prefect and TensorFlow takes half as long again.
unexport PYTHONDONTWRITEBYTECODE

# An environment that was copied or moved with its checkout would still run the old place's code,
# and one whose interpreter is gone runs nothing: both are made anew.
MADE_FOR := $(shell test -x $(VENV)/bin/python && cat $(VENV)/.libraries 2>/dev/null)
ifneq ($(MADE_FOR),$(CURDIR))
UNUSABLE := unusable
endif

.NOTPARALLEL:
.PHONY: help run up down test check format lock gpu clean unusable

help:  ## this list
	@awk -F ' *## ' '/^[a-z0-9-]+:.*## / { sub(/:.*/, "", $$1); printf "make %-14s %s\n", $$1, $$2 }' Makefile

run: $(VENV)/.project $(wildcard $(VENV)/.gpu)  ## retrain, evaluate, promote: make run ARGS="--epochs 1"
	@$(VENV)/bin/digits run $(ARGS)

up: $(VENV)/.project $(wildcard $(VENV)/.gpu)  ## server, dashboard, deployments and a worker, until Ctrl-C
	@$(VENV)/bin/digits up

down:  ## end what `make up` started and could not end itself
	@if test -x $(VENV)/bin/digits; then $(VENV)/bin/digits down; fi

test: $(VENV)/.development $(VENV)/.project  ## the tests: make test ARGS="-k ledger", with coverage ARGS=--cov
	@$(VENV)/bin/python -m pytest $(PARALLEL) --dist loadscope --no-loadscope-reorder $(ARGS)

.PHONY: test-faults test-e2e
test-faults: $(VENV)/.development $(VENV)/.project  ## kills, damage, races and edits in full, and what else is slow; 25 minutes
	@$(VENV)/bin/python -m pytest -m "faults or (slow and not mnist and not network and not e2e)" $(PARALLEL) $(ARGS)

test-e2e: $(VENV)/.development $(VENV)/.project  ## the whole service: server, worker, schedule, browser; ten minutes
	@$(VENV)/bin/python -m pytest -m e2e $(ARGS)

.PHONY: bench bench-accuracy
bench: $(VENV)/.development $(VENV)/.project  ## time everything on an idle machine: an hour; see benchmarks/
	@set -e; for part in training_speed distortion unchanged retrain time_to_99 growth scoring; do \
		printf '\n## %s\n\n' $$part; $(VENV)/bin/python -m benchmarks.$$part; done

bench-accuracy: $(VENV)/.development $(VENV)/.project  ## five seeds of every recipe: two hours and more
	@set -e; for recipe in best fast reference; do \
		$(VENV)/bin/python -m benchmarks.accuracy --recipe $$recipe $(ARGS); done

check: $(VENV)/.development $(VENV)/.project  ## formatting, lint, types, direction of imports
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo

format: $(VENV)/.development  ## format the code, and mend what the linter can mend
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

gpu: $(VENV)/.gpu $(VENV)/.project  ## add TensorFlow's CUDA libraries (4 GB more on the disk)

# A lock that comes out the same keeps its date: the environment need not be made again.
lock:  ## write the lock after a change in pyproject.toml: make lock ARGS="--upgrade"
	@set -e; uv=$$(mktemp -d); trap 'rm -rf "$$uv"' EXIT; \
	$(PYTHON) -m venv "$$uv"; "$$uv"/bin/python -m pip --disable-pip-version-check install -q uv; \
	compile() { \
		lock=$$1; shift; cp -p "$$lock" "$$uv"; \
		"$$uv"/bin/uv pip compile -q pyproject.toml -o "$$lock" --universal --python-version 3.11 \
			--generate-hashes --no-emit-index-url --no-emit-find-links \
			--custom-compile-command 'make lock' $(ARGS) "$$@"; \
		if cmp -s "$$uv/$$lock" "$$lock"; then cp -p "$$uv/$$lock" "$$lock"; fi; \
	}; \
	compile requirements.txt; \
	compile requirements-dev.txt -c requirements.txt --extra dev --extra export; \
	compile requirements-gpu.txt -c requirements.txt --extra gpu

clean:  ## remove the environment and the tools' caches; data and artifacts stay
	rm -rf $(VENV) .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache \
		.pytest_cache .ruff_cache build digits.egg-info

$(VENV)/.libraries: requirements.txt $(UNUSABLE)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || $(UNFIT)
	@echo "Setting up $(VENV) from $<: 3 GB on the disk, a few minutes"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(INSTALL) $(LOCKED) $(TO_LOG)
	@echo '$(CURDIR)' > $@

# Nothing is downloaded here: the lock has setuptools, since TensorFlow depends on it.
$(VENV)/.project: pyproject.toml $(VENV)/.libraries
	@$(INSTALL) --no-deps --no-build-isolation -e . $(TO_LOG)
	@touch $@

$(VENV)/.development: requirements-dev.txt $(VENV)/.libraries
$(VENV)/.gpu: requirements-gpu.txt $(VENV)/.libraries

# Killed in the middle of this, pip can leave a package that looks installed: start from nothing.
$(VENV)/.development $(VENV)/.gpu:
	@if test -e $@.begun; then rm $(VENV)/.libraries; $(MAKE) --no-print-directory $(VENV)/.libraries; fi
	@echo "Adding $< to $(VENV)"
	@touch $@.begun
	@$(INSTALL) $(LOCKED) $(TO_LOG)
	@mv $@.begun $@

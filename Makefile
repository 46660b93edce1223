# `make run` and `make test` work from a bare checkout; `make` lists the other targets.
#
# The environment in .venv has several parts: the locked libraries, this project as an editable
# install, and the extras for development and GPUs. A part's stamp file is written last, when the
# part is complete.

PYTHON ?= python3
ARGS   ?=

VENV    := .venv
LOG     := $(VENV)/install.log
# pip's option --user, which may be set in its configuration, does not work in an environment.
INSTALL := PIP_USER=no $(VENV)/bin/python -m pip --disable-pip-version-check install --compile --progress-bar off
# The lock file is given twice: as a constraint it also pins requirements with extras, such as
# name[extra], for which pip 23 would otherwise take the newest version.
LOCKED   = --require-hashes -r $< -c $<
TO_LOG   = > $(LOG) 2>&1 || { $(EXPLAIN); echo "Installation failed; see $(LOG)."; exit 1; } >&2
UNFIT   := { echo "$(PYTHON): missing or not supported (expected Python 3.11, 3.12 or 3.13);" \
             "choose another one: make PYTHON=/usr/bin/python3.12 ..." >&2; exit 1; }
NO_VENV  = { echo "$(PYTHON) cannot create environments: its module ensurepip is missing." \
             "On Debian and Ubuntu, install the package" \
             "python$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv." >&2; exit 1; }

# Tests run on all cores (see tests/conftest.py), but in at most four processes, since each takes
# 2 GB. ARGS="-n 0" runs them in one process.
PARALLEL := --numprocesses logical --maxprocesses 4

# What was added to the environment, and is added again when it is rebuilt.
EXTRAS = $(wildcard $(VENV)/.gpu $(VENV)/.mlflow $(VENV)/.team $(VENV)/.ray $(VENV)/.optuna)

# Without compiled bytecode, Prefect and TensorFlow take 50% longer to start.
unexport PYTHONDONTWRITEBYTECODE
# These would replace the environment's libraries, or modules of this project such as `tasks`.
unexport PYTHONPATH PYTHONHOME
# These would install somewhere else.
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_DRY_RUN

# An environment that was copied or moved with its checkout would still run the code in the old
# place, and one without its interpreter cannot run at all: both are rebuilt. So is one of another
# Python than the one that is asked for.
MADE_FOR := $(shell test -x $(VENV)/bin/python && cat $(VENV)/.libraries 2>/dev/null)
ifneq ($(MADE_FOR),$(CURDIR))
UNUSABLE := unusable
endif
ifneq ($(origin PYTHON),file)
ASKED := $(shell PYTHONHOME= $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
HAS   := $(shell sed -n 's/^version[_info]* *= *\([0-9]*\.[0-9]*\).*/\1/p' $(VENV)/pyvenv.cfg 2>/dev/null)
ifneq ($(ASKED),$(HAS))
UNUSABLE := unusable
endif
endif

# pip reports an index that it did not reach as a conflict between versions. The locked ones fit.
NO_INDEX := connection broken by|from versions: none|^ERROR: Cannot install
define EXPLAIN
if grep -qE '$(NO_INDEX)' $(LOG); then \
	echo "No package index was reached, or it lacks a locked version: check the network," \
	     "the proxy (HTTPS_PROXY) and pip's index (pip config list)."; \
	grep -E -m 1 '$(NO_INDEX)' $(LOG); \
else tail -n 5 $(LOG); fi
endef

# Runs a command while no other make sets up the environment.
define ALONE
import fcntl, os, sys
lock = open("Makefile")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("Waiting for another make that is setting up the environment", file=sys.stderr)
    fcntl.flock(lock, fcntl.LOCK_EX)
os.set_inheritable(lock.fileno(), True)
os.execvp(sys.argv[1], sys.argv[1:])
endef
export ALONE

.NOTPARALLEL:
.PHONY: help run up serve down export test check format lock gpu mlflow team ray optuna clean unusable

help:  ## list the targets
	@awk -F ' *## ' '/^[a-z0-9-]+:.*## / { sub(/:.*/, "", $$1); printf "make %-14s %s\n", $$1, $$2 }' Makefile

run: $(VENV)/.project $(EXTRAS)  ## retrain, evaluate, promote or keep: make run ARGS="--epochs 1"
	@$(VENV)/bin/digits run $(ARGS)

up: $(VENV)/.project $(EXTRAS)  ## start the server, dashboard, deployments and a worker; Ctrl-C stops them
	@$(VENV)/bin/digits up

serve: $(VENV)/.project  ## answer over HTTP with the champion; Ctrl-C stops it: make serve ARGS="--port 8000 --workers 2"
	@$(VENV)/bin/digits serve $(ARGS)

down:  ## stop what `make up` started, even if it was killed
	@if test -x $(VENV)/bin/digits; then $(VENV)/bin/digits down; fi

export: $(VENV)/.export $(VENV)/.project  ## export the champion as Keras file, SavedModel, ONNX and LiteRT: make export ARGS=FOLDER
	@$(VENV)/bin/digits export $(ARGS)

test: $(VENV)/.development $(VENV)/.project  ## run the tests: make test ARGS="-k ledger"; with coverage: ARGS=--cov
	@$(VENV)/bin/python -m pytest $(PARALLEL) --dist loadscope --no-loadscope-reorder $(ARGS)

.PHONY: test-faults test-e2e test-cluster
test-faults: $(VENV)/.development $(VENV)/.project  ## run all kill, corruption, race and edit tests, and other slow ones; 28 minutes
	@$(VENV)/bin/python -m pytest -m "faults or (slow and not mnist and not network and not e2e)" --numprocesses 4 $(ARGS)

test-e2e: $(VENV)/.development $(VENV)/.project  ## test the complete service: server, worker, schedule, browser; 17 minutes
	@$(VENV)/bin/python -m pytest -m e2e --numprocesses 2 --dist loadscope --no-loadscope-reorder $(ARGS)

test-cluster: $(VENV)/.development $(VENV)/.project  ## test several machines: S3, PostgreSQL, Redis, kills, partitions; 15 minutes
	@tests/cluster/install
	@$(VENV)/bin/python -m pytest tests/cluster -m cluster --numprocesses 2 --dist loadscope --no-loadscope-reorder $(ARGS)

.PHONY: test-properties
test-properties: $(VENV)/.development $(VENV)/.project  ## run the property tests with new random examples; 10 minutes
	@$(VENV)/bin/python -m pytest -m "hypothesis and not mnist and not network and not e2e" \
		--hypothesis-profile explore $(PARALLEL) $(ARGS)

.PHONY: bench bench-accuracy
bench: $(VENV)/.development $(VENV)/.project  ## run the benchmarks on an idle machine; 1 hour; see benchmarks/
	@set -e; for part in training_speed distortion unchanged retrain time_to_99 growth scoring; do \
		printf '\n## %s\n\n' $$part; $(VENV)/bin/python -m benchmarks.$$part; done

.PHONY: bench-gpu
HAS_GPU := from digits.training.gpus import first_gpu; raise SystemExit(first_gpu() is None)
bench-gpu: $(VENV)/.project  ## measure training on an NVIDIA GPU: its rate, every recipe, time to 99%
	@if $(VENV)/bin/python -c '$(HAS_GPU)'; then $(MAKE) --no-print-directory gpu; fi
	@$(VENV)/bin/python -m benchmarks.gpu $(ARGS)

bench-accuracy: $(VENV)/.development $(VENV)/.project  ## train every recipe with five seeds; over 2 hours
	@$(VENV)/bin/python -m benchmarks.accuracy --recipes best,fast,reference $(ARGS)

check: $(VENV)/.development $(VENV)/.project  ## check formatting, lint, types and import direction
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo

format: $(VENV)/.development  ## format the code and fix what the linter can fix
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

gpu: $(VENV)/.gpu $(VENV)/.project  ## add TensorFlow's CUDA libraries (4 GB more disk space)

mlflow: $(VENV)/.mlflow $(VENV)/.project  ## add MLflow's client, to publish to the server at MLFLOW_TRACKING_URI

team: $(VENV)/.team $(VENV)/.project  ## add what a service on several machines needs: PostgreSQL, Redis (docs/scale.md)

ray: $(VENV)/.ray $(VENV)/.project  ## add Ray, for `digits sweep --on ray`

optuna: $(VENV)/.optuna $(VENV)/.project  ## add Optuna, for `digits sweep --trials`

.PHONY: image
image:  ## build the container image and try it: make image ARGS="digits:gpu --build-arg DEVICE=gpu"
	@deploy/build_image.sh $(ARGS)

# A lock file that does not change keeps its timestamp, so the environment is not rebuilt.
lock:  ## update the lock files after a change in pyproject.toml: make lock ARGS="--upgrade"
	@set -e; uv=$$(mktemp -d); trap 'rm -rf "$$uv"' EXIT; \
	$(PYTHON) -m venv "$$uv"; "$$uv"/bin/python -m pip --disable-pip-version-check install -q uv; \
	compile() { \
		lock=$$1; from=$$2; shift 2; cp -p "$$lock" "$$uv"/before; \
		"$$uv"/bin/uv pip compile -q "$$from" -o "$$lock" --universal --python-version 3.11 \
			--generate-hashes --no-emit-index-url --no-emit-find-links \
			--custom-compile-command 'make lock' $(ARGS) "$$@"; \
		if cmp -s "$$uv"/before "$$lock"; then cp -p "$$uv"/before "$$lock"; fi; \
	}; \
	compile requirements.txt pyproject.toml; \
	compile requirements-dev.txt pyproject.toml -c requirements.txt \
		--extra dev --extra export --extra mlflow --extra team --extra ray --extra optuna; \
	compile requirements-export.txt pyproject.toml -c requirements-dev.txt --extra export; \
	compile requirements-gpu.txt pyproject.toml -c requirements.txt --extra gpu; \
	for extra in mlflow team ray optuna; do \
		compile requirements-$$extra.txt pyproject.toml -c requirements-dev.txt --extra $$extra; done; \
	compile tests/e2e/requirements-mlflow-server.txt tests/e2e/requirements-mlflow-server.in

clean:  ## remove the environment and tool caches, but not data and artifacts
	rm -rf $(VENV) .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache \
		.pytest_cache .ruff_cache build digits.egg-info

$(VENV)/.libraries: requirements.txt $(UNUSABLE)
$(VENV)/.project: pyproject.toml $(VENV)/.libraries
$(VENV)/.development: requirements-dev.txt $(VENV)/.libraries
$(VENV)/.export: requirements-export.txt $(VENV)/.libraries
$(VENV)/.gpu: requirements-gpu.txt $(VENV)/.libraries
$(VENV)/.mlflow: requirements-mlflow.txt $(VENV)/.libraries
$(VENV)/.team: requirements-team.txt $(VENV)/.libraries
$(VENV)/.ray: requirements-ray.txt $(VENV)/.libraries
$(VENV)/.optuna: requirements-optuna.txt $(VENV)/.libraries

ADDITIONS := $(VENV)/.development $(VENV)/.export $(VENV)/.gpu $(VENV)/.mlflow $(VENV)/.team $(VENV)/.ray \
	$(VENV)/.optuna

ifndef IS_ALONE
# The inner make decides again what is out of date, since this one may have had to wait.
$(VENV)/.libraries $(VENV)/.project $(ADDITIONS):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || $(UNFIT)
	@IS_ALONE=yes $(PYTHON) -c "$$ALONE" $(MAKE) -s --no-print-directory $@
else
$(VENV)/.libraries:
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || $(NO_VENV)
	@echo "Setting up $(VENV) from $<: 3 GB of disk space, a few minutes"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(INSTALL) $(LOCKED) $(TO_LOG)
	@echo '$(CURDIR)' > $@

# Nothing is downloaded here: setuptools is in the lock file, since TensorFlow depends on it.
$(VENV)/.project:
	@$(INSTALL) --no-deps --no-build-isolation -e . $(TO_LOG)
	@touch $@

# A killed pip can leave a package that only looks installed: start from scratch.
$(ADDITIONS):
	@if test -e $@.begun; then rm $(VENV)/.libraries; $(MAKE) --no-print-directory $(VENV)/.libraries; fi
	@echo "Adding $< to $(VENV)"
	@touch $@.begun
	@$(INSTALL) $(LOCKED) $(TO_LOG)
	@mv $@.begun $@
endif

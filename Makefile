# SPDX-License-Identifier: Apache-2.0
# From a fresh clone, with Python 3.11 or newer and make: each target installs what it needs.
#
#   make setup                       the whole environment, in .venv
#   make demo [RUNTIME=containerd]   the main job, on simulated nodes or (as root) a real containerd
#   make quick                       style, core, and agent and fleet over fakes: a minute, no root
#   make quick-each                  the same on each Python that pyproject.toml claims and is here
#   make test [ARGS=...]             all tests; as root it installs the Debian packages they need
#   make check                       the gate: format, lint, types, generated files, tests, README, demo
#   make bench [NAME=core|stop|hold|agent|log]   ratios, one JSON line each
#   make test-v2                     the hold on cgroup v2 with systemd, in a guest; 20 minutes
#   make incident [ARGS=...]         the hold on a real Kubernetes, as root and with Go; 10 minutes
#   make fuzz [SECONDS=n]            hostile input for every parser
#
# and for those who change it: make format, make protos, make vectors, make lock.

SHELL = /bin/sh
VENV = .venv
BIN = $(VENV)/bin
READY = $(VENV)/ready
READY_CLI = $(VENV)/ready-cli
RUNTIME ?= simulated
SECONDS ?= 60
SEED ?= 1
NAME ?=
ARGS ?=
PARALLEL = -n auto --dist loadgroup
QUICK = tests/core tests/agent tests/fleet tests/tools tests/test_*.py
# A stray setting of the caller's must not decide which modules a tool finds.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help setup demo quick quick-each test check static machine generated tests-with-coverage transcripts
.PHONY: bench fuzz package incident test-v2 torture format protos vectors lock
.NOTPARALLEL:

help:
	@sed -n '/^#   make/s/^#   //p' Makefile

setup: $(READY)

$(READY): requirements/dev.lock pyproject.toml tools/setup.sh
	@sh tools/setup.sh dev $(VENV)

# Less than READY, and a part of it: a demo needs no developers' tools.
$(READY_CLI): requirements/cli.lock tools/setup.sh
	@sh tools/setup.sh cli $(VENV)

demo: $(READY_CLI)
	@sh tools/machine.sh $(RUNTIME)
	@$(BIN)/python -m scenarios.demo --runtime $(RUNTIME)

# What needs root, a real runtime or much time is left to `make test`.
quick: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pytest -n auto --dist worksteal -m "not slow and not real" $(QUICK) $(ARGS)

quick-each:
	@sh tools/each_python.sh

machine:
	@sh tools/machine.sh test

# In parallel; tests that share the machine stay in one worker (tests/support/machine_group.py).
test: $(READY) machine
	$(BIN)/pytest $(PARALLEL) $(ARGS)

# Everything but the tests, cheap things first; .ci/run has run the tests already when it comes here.
static: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory generated

generated: $(READY)
	$(BIN)/python -m tools.protos --check
	$(BIN)/python -m tools.vectors --check

tests-with-coverage: $(READY) machine
	$(BIN)/pytest $(PARALLEL) --cov --cov-report=term --cov-report=json:.coverage.json $(ARGS)
	$(BIN)/python -m tools.coverage_gate .coverage.json

transcripts: $(READY)
	$(BIN)/python -m tools.readme_transcripts README.md

check: static tests-with-coverage transcripts demo

bench: $(READY)
	@sh tools/machine.sh test >&2
	@$(BIN)/python -m benchmarks $(NAME)

fuzz: $(READY)
	@$(BIN)/python -m tools.fuzz --seconds $(SECONDS) --seed $(SEED)

incident: $(READY)
	@sh tools/machine.sh test
	@$(BIN)/python -m scenarios.incident $(ARGS)

test-v2: $(READY)
	@sh tools/machine.sh guest
	@$(BIN)/python -m scenarios.guest

package torture:
	@echo "make $@ belongs to a later release: nothing was done" >&2; exit 2

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(READY)
	$(BIN)/python -m tools.protos

vectors: $(READY)
	$(BIN)/python -m tools.vectors

lock:
	@sh tools/lock.sh

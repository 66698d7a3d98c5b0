# SPDX-License-Identifier: Apache-2.0
# Every target works from a fresh clone and installs what it needs; each is quick when that is done.
# The set-up needs Python 3.11 or newer with venv, and make; nothing else by hand.

SHELL := /bin/bash
PYTHON ?= $(shell for one in python3.13 python3.12 python3.11 python3; do \
	$$one -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$one; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
RUNTIME ?= simulated
REPORT ?=
NAME ?=
SECONDS ?= 60
SEED ?= 1

.PHONY: setup demo test check lint types generated transcripts package bench fuzz incident test-v2 torture

setup: $(VENV)/.done

$(VENV)/.done: requirements/dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "expected Python 3.11 or newer with venv, got none: install python3.11 and python3.11-venv" >&2; exit 2; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(RUN) -m compileall -q breakglass $(VENV)/lib || true
	@touch $@

demo: setup
	@$(RUN) -m lab.demo --runtime $(RUNTIME) $(if $(REPORT),--report $(REPORT))

test: setup
	@tools/install_test_tools.sh
	$(RUN) -m pytest --cov --cov-branch --cov-report=json:.coverage.json --cov-report=
	$(RUN) tools/coverage_gate.py .coverage.json

check: lint types generated test transcripts demo

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

generated: setup
	$(RUN) tools/protos.py --check

transcripts: setup
	$(RUN) tools/readme_transcripts.py README.md

package: setup
	$(RUN) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist

bench: setup
	@tools/install_test_tools.sh
	@$(RUN) -m benchmarks $(NAME)

fuzz: setup
	@$(RUN) -m tools.fuzz --seconds $(SECONDS) --seed $(SEED)

incident test-v2 torture:
	@echo "expected a target of this release, got $@: it comes with the hold that outlives kubelet" >&2; exit 2

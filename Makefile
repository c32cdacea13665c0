# The commands of the project; `make help` lists them. Rules of one subsystem live in make/*.mk.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
# Real purchases to replay; they lie beside the checkout.
FILE ?= ../shared/data/cdnow_purchases.txt.gz

.PHONY: help setup setup-all run pay evidence replay test check bench soak test-pq-token lock

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what the others need (each of them runs it first): Debian packages, .venv, locked wheels
	@PYTHON=$(PYTHON) provisioning/setup.sh

setup-all: # the same, with what tests and `make evidence` start beside a shop: PostgreSQL, Node.js, Chromium
	@PYTHON=$(PYTHON) provisioning/setup.sh all

run: setup ## start or resume a whole simulated shop in .sandbox/ and say what to try; Ctrl-C stops it
	@exec $(BIN)/tillstone sandbox

pay: setup ## sell once; leaves build/receipt.cbor and build/trust.json
	@$(BIN)/tillstone pay

evidence: setup-all ## sell once on real test nodes; leaves build/evidence.bundle, build/anchor.ots and build/trust.json, checked
	@$(BIN)/python -m provisioning.sandbox.anchored

replay: setup ## send a file of real purchases through two terminals and verify the whole log (FILE=...)
	@$(BIN)/tillstone replay $(FILE)

test: setup-all ## run every test
	$(BIN)/pytest

check: setup-all ## what CI runs: format, lint, types, layers, every test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

bench: setup-all ## measure, beside the machine's own limits; writes build/bench.json
	@$(BIN)/python -m tests.bench

soak: setup-all ## kill the process at random, 10,000 times (SOAK_KILLS=...)
	SOAK_KILLS=$${SOAK_KILLS:-10000} $(BIN)/pytest tests/crash -m soak

# Existing pins stay unless asked: make lock LOCK_FLAGS=--upgrade. Addresses of package indexes stay out of the lock,
# so that every machine uses its own. Each file is constrained by the one before it: one version of everything.
LOCK = uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
  --no-header --quiet $(LOCK_FLAGS)
lock: ## renew requirements/*.txt from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs the program uv on PATH"; exit 1; }
	$(LOCK) pyproject.toml -o requirements/run.txt
	$(LOCK) pyproject.toml --group dev -c requirements/run.txt -o requirements/dev.txt
	$(LOCK) --group build -c requirements/dev.txt -o requirements/build.txt

-include make/*.mk

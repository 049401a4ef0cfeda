# `make repro` regenerates the tables in miniature; `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

export RAY_USAGE_STATS_ENABLED := 0
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := 1

.DEFAULT_GOAL := help
.PHONY: help git setup repro test check ui docs camvid clean lock

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sort | sed 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## Create .venv with the exact versions of requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, found %d.%d; set PYTHON=" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing requirements.lock into $(VENV) (about three minutes the first time)"
	@$(BIN)/python -m pip install --quiet --no-deps --disable-pip-version-check --progress-bar off -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --disable-pip-version-check -e .
	@touch $@

# DVC keeps no books outside a repository: said before anything is installed.
git:
	@test -e .git || git rev-parse --git-dir >/dev/null 2>&1 || { echo "error: this copy has no .git, which dvc needs:" \
		"clone the repository, or run: git init && git add -A && git commit -m start" >&2; exit 2; }

repro: git setup ## Data, shards, weights, sweep and report: the paper's ablation in miniature
	@PATH="$$PWD/$(BIN):$$PATH" $(BIN)/dvc repro
	@$(BIN)/python pipelines/report.py --where

test: setup ## Run the test suite
	@$(BIN)/python -m pytest

check: setup ## Format, lint, types and import contracts; every one blocks
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

ui: setup ## Browse the runs in the MLflow UI (Ctrl-C stops it)
	@MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow server --workers 1 --host 127.0.0.1 --port 5000 \
		--backend-store-uri "sqlite:///$$PWD/mlflow.db" --default-artifact-root "$$PWD/mlartifacts"

docs: ## Write the reference from the docstrings into docs/reference/
	@$(PYTHON) docs/reference.py

# Real street scenes from random weights: half the images' size, windows of the whole image (position tells a lot), mild
# augmentation, and what short trainings from nothing need: AdamW, warm-up, class weights, bfloat16.
CAMVID_RECIPE := {iterations: 700, batch_size: 8, crop_size: [176, 240], base_size: [240, 180], \
	ratio_range: [0.9, 1.2], photometric: false, optimizer: adamw, base_lr: 3.0e-3, min_lr: 1.0e-5, \
	weight_decay: 0.05, head_lr_multiplier: 1.0, warmup_steps: 50, class_weights: inverse_sqrt, \
	loss_denominator: valid, precision: bfloat16, evaluate_every: 350, checkpoint_every: 350}

camvid: setup ## Train a miniature on CamVid in eight minutes (CAMVID=<its folder>)
	@$(BIN)/python pipelines/prepare.py data.name=camvid "data.root=$(CAMVID)"
	@$(BIN)/python pipelines/train.py data.name=camvid variant=setr-pup-random training.threads=2 \
		"training.recipe=$(CAMVID_RECIPE)"

lock: setup ## Resolve pyproject.toml into requirements.lock anew
	@$(BIN)/python -m pip install --quiet uv
	@{ echo "# Exact versions of everything, for every platform; made by 'make lock' from pyproject.toml."; \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-annotate --no-header pyproject.toml; \
	} > requirements.lock.tmp && mv requirements.lock.tmp requirements.lock

clean: ## Remove what the pipeline made (checkpoints, runs, report, data), after asking; YES=1 does not ask
	@test -x $(BIN)/python || { echo "no $(VENV): run 'make setup' first"; exit 1; }
	@$(BIN)/python pipelines/clean.py $(if $(YES),--yes)

VENV ?= .venv
PYTHON ?= python3
PROFILE ?=
JOBS ?= 2
ORDER ?= 0
READY := $(VENV)/.installed
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
SMOKE := .smoke
IS_PROFILE = { test -f "$(PROFILE)" || { echo "error: PROFILE=profiles/full.yaml, or another one, says what to run" >&2; exit 1; }; }
export PATH := $(abspath $(VENV))/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help import repro results verify test test-all chaos browser test-browser lint smoke bench ui backfill

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 14
	@echo "every target honours VENV=path (now $(VENV))"

$(READY): requirements.txt
	$(PYTHON) -m venv $(VENV)
	pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

import: $(READY)  ## your own images: FROM=folder or .zip; CSV=table, UNLABELLED=folder, REPLACE=1 if you like
	@python -m stages.import_images $(if $(CSV),--csv "$$CSV") $(if $(UNLABELLED),--unlabelled "$$UNLABELLED") \
	  $(if $(REPLACE),--replace) -- "$$FROM"

repro: $(READY)  ## run what has changed, JOBS=2 stages at a time; PROFILE=profiles/full.yaml becomes params.yaml first
	@$(if $(PROFILE),$(IS_PROFILE) && cp $(PROFILE) params.yaml)
	@python -m stages.parallel $(JOBS)
	@echo && cat reports/overview.md

results: NAME = $(basename $(notdir $(PROFILE)))
results: $(READY)  ## run PROFILE=profiles/full.yaml beside the default, or go on with it, and renew its page in docs/results
	@$(IS_PROFILE)
	@mkdir -p .results/$(NAME)
	@git ls-files -z -- . ':!*.dvc' ':!dvc.lock' ':!metrics' ':!reports' | tar -c --null -T - -f - | tar -x -C .results/$(NAME) -f -
	@for own in $(wildcard data/images data/unlabelled); do ln -sfn $(CURDIR)/$$own .results/$(NAME)/$$own; done
	@cd .results/$(NAME) && git init -q && cp $(PROFILE) params.yaml && \
	  MLFLOW_TRACKING_URI=$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db} python -m stages.parallel $(JOBS)
	@commit=$$(git describe --always --dirty) && { printf '# %s, measured\n\nAt commit %s. ' $(PROFILE) $$commit; \
	  printf '`make results PROFILE=%s` gives it; the numbers are in [%s.csv](%s.csv).\n\n' $(PROFILE) $(NAME) $(NAME); \
	  cat .results/$(NAME)/reports/benchmark.md; } > docs/results/$(NAME).md
	@cp .results/$(NAME)/reports/benchmark.csv docs/results/$(NAME).csv
	@cp .results/$(NAME)/reports/accuracy_latency.png docs/results/$(NAME).png
	@cat .results/$(NAME)/reports/overview.md && echo "docs/results/$(NAME).md has all of it"

verify: $(READY)  ## run everything again from nothing, in .verify, and name every output that differs
	python -m stages.verify $(JOBS)

test: $(READY)  ## what CI runs on every push, JOBS=2 at a time, in an order that ORDER=0 shuffles
	python -m pytest -m "not long" -n $(JOBS) --dist worksteal --randomly-seed=$(ORDER)

test-all: test browser  ## the long tests too: every family of models; one at a time whole runs, kills, faults, servers, ranks
	python -m pytest -m long -n $(JOBS) --dist worksteal --randomly-seed=$(ORDER) tests/deployment
	REQUIRE_BROWSER=1 python -m pytest -m long --ignore=tests/deployment --randomly-seed=$(ORDER)

chaos: $(READY)  ## kill the pipeline on the digits at 100 random moments; an hour
	TRIALS=100 python -m pytest -s tests/stages/test_chaos.py

browser:  ## install Debian's Chromium and its driver, for test-browser
	@command -v chromedriver > /dev/null || \
	  { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq chromium chromium-driver; } > /dev/null

test-browser: $(READY) browser  ## look at MLflow's UI and the report in a real browser
	REQUIRE_BROWSER=1 python -m pytest tests/tracking/test_ui.py

lint: $(READY)  ## check style and format
	ruff check .
	ruff format --check .

smoke: $(READY)  ## the same pipeline on tiny data and models, in a scratch copy (.smoke)
	@rm -rf $(SMOKE) && mkdir $(SMOKE)
	@git ls-files -z --cached --others --exclude-standard | tar -c --null -T - -f - | tar -x -C $(SMOKE) -f -
	@cd $(SMOKE) && rm -f dvc.lock && git init -q && unset MLFLOW_TRACKING_URI && \
	  cp profiles/smoke.yaml params.yaml && python -m stages.parallel $(JOBS) && \
	  echo && cat reports/overview.md

bench: $(READY)  ## measure the engine against what bounds it, after `make repro`; 26 minutes on two cores
	python -m benchmarks

ui: $(READY)  ## open the MLflow UI on http://127.0.0.1:5000; prints the address that compares versions
	@python -m pipeline.tracking.summary || true
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --host 127.0.0.1 --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}"

backfill: $(READY)  ## send MLflow the runs that it missed while it could not be reached
	@python -m pipeline.tracking.backfill

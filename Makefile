# Set-up and shortcuts; the workflow itself is Snakemake (see README.md).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
HALF := $(VENV)/half-installed

.PHONY: help demo test lint install lock clean
.DEFAULT_GOAL := help

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: $(INSTALLED) ## Make the mini kitchen, train on it, write demo/results/submission.pt
	$(BIN)/snakemake all --directory demo --configfile config/demo.yaml --quiet rules
	@echo && cat demo/results/summary.txt

test: $(INSTALLED) lint ## Lint, unit tests and one whole demo run
	$(BIN)/python -m pytest

lint: $(INSTALLED) ## ruff, snakefmt and snakemake --lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint --configfile config/demo.yaml

install: $(INSTALLED) ## Make .venv from requirements.lock

# An install that was cut short leaves its marker behind, and the next one starts afresh.
$(INSTALLED): requirements.lock requirements-cuda.lock pyproject.toml envs/install.sh
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
	  "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1): run make PYTHON=python3.11"; \
	  exit 1; }
	if [ -e $(HALF) ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -m venv --clear $(VENV); fi
	touch $(HALF)
	sh envs/install.sh $(BIN)/python
	rm $(HALF) && touch $@

lock: ## Renew requirements.lock from pyproject.toml (needs the package index)
	$(PYTHON) -m venv --clear .snakemake/lock
	.snakemake/lock/bin/pip install --quiet uv
	PATH=$(CURDIR)/.snakemake/lock/bin:$$PATH $(PYTHON) envs/lock.py

clean: ## Remove the demo
	rm -rf demo

# Set-up and shortcuts; the workflow itself is Snakemake (see README.md).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
HALF := $(VENV)/half-installed
DEV := $(VENV)/dev-installed
# 12: torch for GPUs before sm_75 or drivers before 580; 13: the newest. Else nvidia-smi decides. What
# was asked for once stays until another is asked for.
HAS := $(shell cat $(INSTALLED) 2>/dev/null)
CUDA ?= $(HAS)

.PHONY: help demo test slurm-tests other-tests quick lint docs install dev lock clean other-cuda
.DEFAULT_GOAL := help

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: $(INSTALLED) ## Make the mini kitchen, train on it, write demo/results/submission.pt
	$(BIN)/snakemake all --directory demo --configfile config/demo.yaml --logger epic100

test: $(DEV) lint ## Lint, unit tests and one whole demo run
	@mkdir -p build
	@$(MAKE) -j2 other-tests slurm-tests; \
	status=$$?; [ ! -e build/slurm-tests.txt ] || cat build/slurm-tests.txt; exit $$status

# Side by side, since tests on Slurm mostly wait. Their output follows at the end.
other-tests:
	$(BIN)/python -m pytest --ignore=tests/slurm

slurm-tests:
	$(BIN)/python -m pytest tests/slurm >build/slurm-tests.txt 2>&1

quick: $(DEV) ## The tests that take seconds
	$(BIN)/python -m pytest -m "not slow and not zoo"

docs: $(DEV) ## The docs site, in build/site
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict

lint: $(DEV) ## ruff, mypy, snakefmt and snakemake --lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile rules workflow/Snakefile
	$(BIN)/snakemake --lint --configfile config/demo.yaml

install: $(INSTALLED) ## Make .venv from the locks; CUDA=12 for old GPUs and drivers

dev: $(DEV) ## ... and what tests, linters and docs need

$(DEV): $(INSTALLED) requirements-dev.lock
	$(BIN)/python -m pip --disable-pip-version-check install --no-deps --require-hashes \
	  -r requirements-dev.lock
	touch $@

# An install that was cut short leaves its marker behind, and the next one starts afresh.
$(INSTALLED): requirements.lock requirements-torch.lock requirements-torch-cuda12.lock \
    pyproject.toml envs/install.sh envs/install_torch.py envs/cuda.sh
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
	  "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1): run make PYTHON=python3.11"; \
	  exit 1; }
	if [ -e $(HALF) ] || [ "$(CUDA)" != "$(HAS)" ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -m venv --clear $(VENV); fi
	touch $(HALF)
	sh envs/install.sh $(BIN)/python $(CUDA)
	rm $(HALF) && echo "$(CUDA)" > $@

ifneq ($(CUDA),$(HAS))
$(INSTALLED): other-cuda
other-cuda:
endif

lock: $(DEV) ## Renew the locks from pyproject.toml (needs the package index); UPGRADE=1: newest pins
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python envs/lock.py $(if $(UPGRADE),--upgrade)

clean: ## Remove the demo
	rm -rf demo

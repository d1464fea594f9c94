# Set-up and shortcuts; the workflow itself is Snakemake (see README.md).
PYTHON ?= python3
# Snakemake does not quote the path of its Python: where this folder's has a space, .venv is a link.
SPACED := $(word 2,$(CURDIR))
VENV := $(if $(SPACED),$(HOME)/.cache/epic100/venv-$(shell pwd | cksum | cut -d' ' -f1),.venv)
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
HALF := $(VENV)/half-installed
HF := $(VENV)/hf-installed
DEV := $(VENV)/dev-installed
# 12: torch for GPUs before sm_75 or drivers before 580; 13: the newest. Else nvidia-smi decides. What
# was asked for once stays until another is asked for.
HAS := $(shell cat $(INSTALLED) 2>/dev/null)
CUDA ?= $(HAS)
# For pytest-xdist. tests/conftest.py states what one process takes, and the order.
PARALLEL := -n auto --maxprocesses 4 --no-loadscope-reorder

.PHONY: help demo test test-slow test-all test-lowest quick mutants report-card keys container lint docs install hf dev lock clean other-cuda
.DEFAULT_GOAL := help

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 15

demo: $(INSTALLED) ## Make the mini kitchen, train on it, write demo/results/submission.pt
	$(BIN)/snakemake all --directory demo --configfile config/demo.yaml --logger epic100

test: $(DEV) ## Linters, and the tests of what a change can break: six minutes
	$(BIN)/python tests/tools/side_by_side.py lint tests $(PARALLEL)

test-slow: $(DEV) ## Every kind of a fault, Slurm, attacks, all models
	$(BIN)/python tests/tools/side_by_side.py $(PARTS) $(PARALLEL)
test-slow: PARTS := thorough slurm

test-all: $(DEV) ## All tests, the weekly ones too: the wheel, the docs site, three demos
	$(BIN)/python tests/tools/side_by_side.py lint all slurm lowest $(PARALLEL)

test-lowest: $(DEV) ## Tests of rules on the lowest versions; SNAKEMAKE=9.25.2: on that (needs the index)
	$(BIN)/python tests/tools/lowest_versions.py $(if $(SNAKEMAKE),--snakemake $(SNAKEMAKE)) $(PARALLEL)

quick: $(DEV) ## The tests of the parts that take seconds: at every save
	$(BIN)/python -m pytest -q $(PARALLEL) -m "not slow and not weekly" --ignore tests/slurm

mutants: $(DEV) ## Do tests notice small faults? 40 of them, drawn by SEED, up to an hour
	$(BIN)/python tests/tools/mutants.py --seed $(or $(SEED),1)

report-card: $(DEV) ## Slow tests, coverage by file, tangled functions; of TESTS alone, if named
	rm -rf build/coverage && mkdir -p build/coverage
	-$(BIN)/coverage run -m pytest -q -p no:cacheprovider --durations 20 $(PARALLEL) \
	  --ignore tests/slurm $(TESTS)
	$(BIN)/coverage combine && $(BIN)/coverage report
	$(BIN)/ruff check --quiet --exit-zero --output-format concise --select C901 \
	  --config lint.mccabe.max-complexity=10 .
report-card: export COVERAGE_FILE := $(CURDIR)/build/coverage/data

keys: $(DEV) ## Renew what is made from settings and recipes: tables of pages, the schema
	$(BIN)/python tests/tools/settings_pages.py
	$(BIN)/python tests/tools/recipe_pages.py

docs: $(DEV) ## The docs site, in build/site
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict

container: ## The environment as one file, build/epic100.sif, by Apptainer
	mkdir -p build
	apptainer build build/epic100.sif envs/apptainer.def
	apptainer exec build/epic100.sif epic100 --version

lint: $(DEV) ## ruff, mypy, snakefmt and snakemake --lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile rules workflow/Snakefile
	$(BIN)/snakemake --lint --configfile config/demo.yaml

install: $(INSTALLED) ## Make .venv from the locks; CUDA=12 for old GPUs and drivers

hf: $(HF) ## ... and transformers, for encoders of Hugging Face (docs/features.md)

dev: $(DEV) ## ... and what tests, linters and docs need

$(HF) $(DEV): $(VENV)/%-installed: requirements-%.lock $(INSTALLED)
	$(BIN)/python -m pip --disable-pip-version-check install --no-deps --require-hashes -r $<
	touch $@

$(DEV): $(HF)

# An install that was cut short leaves its marker behind, and the next one starts afresh.
$(INSTALLED): requirements.lock requirements-torch.lock requirements-torch-cuda12.lock \
    pyproject.toml envs/install.sh envs/install_torch.py envs/cuda.sh
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
	  "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1): run make PYTHON=python3.11"; \
	  exit 1; }
	$(if $(SPACED),mkdir -p $(VENV) && ln -sfn $(VENV) .venv)
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
	PATH="$(if $(SPACED),,$(CURDIR)/)$(BIN):$$PATH" $(BIN)/python envs/lock.py $(if $(UPGRADE),--upgrade)

clean: ## Remove the demo
	rm -rf demo

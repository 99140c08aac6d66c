# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
DEMO_CONFIG := config/demo.yaml
BENCHMARK ?= benchmarks/comparison/miccai2012.yaml
WORKERS ?= logical

.PHONY: help install install-test demo test test-slurm lint format schema benchmark clean

help:
	@echo "make demo       install, then run the pipeline on the embedded simulated cohort"
	@echo "make test       install what tests need, then lint and test"
	@echo "make test-slurm the pipeline through a real SLURM on this machine (root, Debian)"
	@echo "make lint       ruff, snakefmt, snakemake --lint, types, spelling"
	@echo "make format     apply the formatters"
	@echo "make schema     write the JSON schema of the configuration"
	@echo "make benchmark  install the rivals, then compare all methods (BENCHMARK: settings file)"
	@echo "make clean      remove the virtual environment and the results of the demo"

# torch goes first: where an index offers a CPU build of this version, nothing replaces it later.
$(VENV)/.installed: pyproject.toml setup.py envs/constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and 'NIR needs Python 3.11 to 3.13: set PYTHON')"
	@echo "Installing into $(VENV): this takes a few minutes the first time."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --progress-bar off "$(TORCH)"
	$(BIN)/python -m pip install --quiet --progress-bar off --constraint envs/constraints.txt --config-settings editable_mode=compat --editable .
	$(BIN)/nir warmup
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --progress-bar off --constraint envs/constraints.txt --config-settings editable_mode=compat --editable ".[test]"
	touch $@

install: $(VENV)/.installed

install-test: $(VENV)/.installed-test

demo: install
	$(BIN)/snakemake --configfile $(DEMO_CONFIG)

# A file stays on one worker, so that what it prepares is made once.
test: install-test lint
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 25

test-slurm: install-test
	NIR_TEST_SLURM=1 $(BIN)/python -m pytest tests/slurm

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/mypy
	$(BIN)/codespell

format: install-test
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

schema: install
	$(BIN)/nir schema -o workflow/schemas/config.schema.json

benchmark: install
	$(BIN)/python -m pip install --quiet --progress-bar off --constraint envs/constraints.txt --config-settings editable_mode=compat --editable ".[benchmarks]"
	$(BIN)/python -m benchmarks.compare --config $(BENCHMARK)

clean:
	rm -rf $(VENV) results/demo

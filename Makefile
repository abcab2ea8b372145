# `make report` and `make test` are all a newcomer needs; the rest is for developers.
# The virtual environment is made once, and again only when the pinned requirements change.
PYTHON ?= python3
CORES ?= 8
RESULTS ?= results
RESOURCES ?= resources
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: report test test-gpu test-slurm bench bench-tuning bench-data bench-resources lint typecheck-tensorrt bindings \
  format lock schema metrics retry clean help
.DEFAULT_GOAL := help

help:  ## list the targets
	@while IFS= read -r line; do \
	  case $$line in [a-z]*:*'## '*) printf '%-20s%s\n' "$${line%%:*}" "$${line##*## }" ;; esac; \
	done < $(firstword $(MAKEFILE_LIST))

report: $(VENV)/.runtime  ## run the whole chain on the embedded default and write results/report.md
	$(BIN)/snakemake --cores $(CORES) results/report.md

test: $(VENV)/.dev  ## run the tests, two files at a time
	$(BIN)/python -m pytest tests --numprocesses 2 --dist loadfile $(PYTEST_ARGS)

test-gpu: $(VENV)/.dev  ## run the tests that need an NVIDIA GPU
	$(BIN)/python -m pytest tests -m gpu $(PYTEST_ARGS)

bench: $(VENV)/.dev  ## measure the project against its peers: results/bench/summary.json (PARTS, PHOTOS)
	PYTHONPATH=workflow/scripts $(BIN)/python benchmarks/bench.py

bench-tuning: $(VENV)/.dev  ## measure the settings of the engines on CPUs against each other
	PYTHONPATH=workflow/scripts $(BIN)/python benchmarks/tuning.py

bench-data: $(VENV)/.dev  ## measure the data side at ImageNet's size against tar, md5sum and torchvision
	PYTHONPATH=workflow/scripts $(BIN)/python benchmarks/data.py $(PARTS)

bench-resources: $(VENV)/.dev  ## measure the memory and the time that each rule takes
	$(BIN)/python benchmarks/resources.py

test-slurm: $(VENV)/.dev  ## run the tests on a real Slurm of one node, which they install and stop again (root, Debian)
	$(BIN)/python -m pytest tests/slurm -m slurm $(PYTEST_ARGS)

lint: $(VENV)/.dev  ## ruff, mypy, snakefmt and Snakemake's linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/snakemake --lint

typecheck-tensorrt: $(VENV)/.dev  ## check the TensorRT code against the real bindings: names and, by mypy, types
	$(BIN)/python tools/dump_bindings.py
	$(BIN)/python tools/typecheck_tensorrt.py

bindings: $(VENV)/.dev  ## regenerate the names of TensorRT's bindings
	$(BIN)/python tools/dump_bindings.py --write

format: $(VENV)/.dev  ## format Python and Snakemake sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow/rules

UV_COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet
CLUSTER := --extra slurm --extra kubernetes
lock: $(VENV)/.dev  ## compile the pinned requirements from pyproject.toml
	$(UV_COMPILE) pyproject.toml -o requirements/runtime.txt
	$(UV_COMPILE) pyproject.toml $(CLUSTER) -c requirements/runtime.txt -o requirements/cluster.txt
	$(UV_COMPILE) pyproject.toml $(CLUSTER) --group dev -c requirements/runtime.txt -o requirements/dev.txt
	$(UV_COMPILE) --group reference --no-deps -o requirements/reference.txt

schema: $(VENV)/.runtime  ## generate the JSON schemas and config/README.md from the models of config and records
	PYTHONPATH=workflow/scripts $(BIN)/python -m stagebench.config_docs

metrics: $(VENV)/.runtime  ## write the registry of metrics into docs/metrics.md
	PYTHONPATH=workflow/scripts $(BIN)/python -m stagebench.report.metrics docs/metrics.md

.PHONY: readme-rows diagram systems
readme-rows: $(VENV)/.runtime  ## write five rows of the table below RESULTS into README.md (CPU="its name" if the report has none)
	$(BIN)/python tools/readme_rows.py --results $(RESULTS) $(if $(CPU),--cpu "$(CPU)")

diagram: $(VENV)/.runtime  ## draw the chain from Snakemake's rule graph: docs/assets/chain.mmd and README.md
	$(BIN)/python tools/diagram.py

systems: $(VENV)/.dev  ## resolve the requirements for each Python and machine, and write README.md's table of systems
	$(BIN)/python tools/check_systems.py

retry: $(VENV)/.runtime  ## delete the records of unavailable and failed stages (RESULTS, RESOURCES): the next run tries again
	PYTHONPATH=workflow/scripts $(BIN)/python -m stagebench.job.retry $(RESULTS) $(RESOURCES)

clean:  ## delete everything the workflow made (downloads stay)
	rm -rf results logs .snakemake

$(BIN)/python:
	@$(PYTHON) tools/check_platform.py
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements/runtime.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	touch $@

$(VENV)/.dev: requirements/dev.txt requirements/reference.txt $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/reference.txt
	@# Snakemake's Slurm plugin calls `which` when it is imported, and a bare machine may have none.
	@printf '#!/bin/sh\ncommand -v "$$@"\n' > $(BIN)/which && chmod +x $(BIN)/which
	touch $@

# What there is to do here. `make help` lists it; everything below works on a fresh clone.

SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

IMAGE ?= localhost/skjob:dev
CONTEXT := kind-skjob
VENV := .venv
READY := $(VENV)/.installed
# what is compared in benchmarks/ is no part of the project
BENCH := .venv-bench
# the first Python that is new enough; 3.11 before the others, because that is what the image's default base has
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
COMPILE = $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --custom-compile-command 'make lock'
# a run's image must have the client's Python
export BASE ?= python:$(shell $(VENV)/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo 3.11)-slim

.PHONY: help demo test test-upstream check format kind kind-down image manifests lock clean bench-startup bench-environment bench-story bench-engine

help: ## list what there is to do
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

demo: $(READY) ## run a grid search on this machine
	@$(VENV)/bin/skjob run examples/digits_grid_search.py --on local

test: $(READY) ## run every test: unit, integration, and kind on a cluster it starts
	@tests/kind/with-cluster $(VENV)/bin/python -m pytest -n 2 --no-loadscope-reorder -m "not slow" $(PYTEST_ARGS)

test-upstream: $(READY) ## run all of joblib's and scikit-learn's own tests with skjob's backend, and say what differs
	@$(VENV)/bin/python -m pytest tests/upstream --with-slow $(PYTEST_ARGS)

check: $(READY) ## lint and type-check
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(READY) ## format the code and repair what the linter can
	@$(VENV)/bin/ruff check --fix-only --quiet .
	@$(VENV)/bin/ruff format .

kind: $(READY) ## start Kubernetes on this machine, ready for `skjob run`
	@tests/kind/cluster up
	@$(MAKE) image
	@$(VENV)/bin/skjob install --context $(CONTEXT) --image $(IMAGE) --worker-cpu 100m --worker-memory 512Mi

kind-down: ## remove that Kubernetes
	@tests/kind/cluster down

image: ## build the image of scheduler, workers and operator, and bring it to kind where that runs
	@tests/kind/cluster build $(IMAGE)
	@if tests/kind/cluster status; then tests/kind/cluster load $(IMAGE); fi

bench-startup: $(READY) ## time a start beside stock KubeCluster, on the cluster of `make kind`
	@$(VENV)/bin/python benchmarks/startup.py

bench-environment: $(READY) ## time the ways to an environment of 86 distributions, on the cluster of `make kind`
	@$(VENV)/bin/python benchmarks/environment.py

bench-story: $(READY) ## time the examples on this machine and on the cluster of `make kind` (ARGS="forest --rounds 1")
	@$(VENV)/bin/python benchmarks/story.py $(ARGS)

bench-engine: $(BENCH)/.installed ## the engine beside stock joblib+Dask, loky, dask-ml and Ray (ARGS="a c --rounds 1")
	@$(BENCH)/bin/python benchmarks/engine.py $(ARGS)

manifests: $(READY) ## render k8s/ from the chart, and bring its custom resources up to date
	@PATH=$$PATH:$$(dirname "$$(tests/kind/cluster helm)") $(VENV)/bin/python k8s/render.py

lock: $(READY) ## bring requirements.lock and image-requirements.lock up to date (UPGRADE=--upgrade for newer versions)
	@$(VENV)/bin/python -m pip install --quiet uv
	@$(COMPILE) $(UPGRADE) --group dev --output-file requirements.lock pyproject.toml image-requirements.in
	@$(COMPILE) --no-annotate --override image-overrides.txt --constraint requirements.lock image-requirements.in \
	  | grep -v "; sys_platform == 'never'$$" > image-requirements.lock # what the overrides exclude, uv keeps with a condition
	@$(COMPILE) --no-annotate --constraint requirements.lock --output-file benchmarks/requirements.txt benchmarks/requirements.in

clean: ## remove what was installed and built here; not the cluster
	@rm -rf $(VENV) $(BENCH) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(READY): pyproject.toml requirements.lock
	@[ -n "$(PYTHON)" ] || { echo "error: no Python 3.11 or later found" >&2; \
	  echo "hint: install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV) && $(MAKE) $(VENV); }
	@echo "==> Installing what the project needs into $(VENV)" >&2
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(BENCH)/.installed: $(READY) benchmarks/requirements.txt
	@echo "==> Installing what is compared with into $(BENCH)" >&2
	@$(VENV)/bin/python -m venv --clear $(BENCH)
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock -r benchmarks/requirements.txt
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# Debian and Ubuntu package venv apart
$(VENV):
	@echo "==> Creating $(VENV) with $(PYTHON)" >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  package=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "==> Installing $$package" >&2; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$$package" >/dev/null; \
	  else \
	    echo "error: $(PYTHON) can't make virtual environments" >&2; \
	    echo "hint: sudo apt-get install $$package" >&2; exit 1; \
	  fi; }
	@$(PYTHON) -m venv $(VENV)

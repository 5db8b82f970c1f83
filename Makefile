# What there is to do here. `make help` lists it; everything below works on a fresh clone.

SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

IMAGE ?= localhost/skjob:dev
CONTEXT := kind-skjob
VENV := .venv
# what it takes to run skjob, and with it the tools of developers and tests
READY := $(VENV)/.installed
COMPLETE := $(VENV)/.completed
# what is compared in benchmarks/ is no part of the project
BENCH := .venv-bench
# scikit-learn's own examples, and what they draw with
GALLERY := .gallery
# what builds the documentation, beside what the tests have
DOCS := .docs
# libraries that surround scikit-learn programs, with skjob in versions that go with theirs
WORKS_WITH := .works-with
# what checks the distributions
RELEASE := .release
# where distributions and the chart are built
DIST ?= dist
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
# a user's environment with JupyterLab and skjob
BROWSER := .venv-browser
# the first Python that is new enough; 3.11 before the others, because that is what the image's default base has
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
PIP_INSTALL := pip install --quiet --disable-pip-version-check
COMPILE = $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --custom-compile-command 'make lock'
# a run's image must have the client's Python
export BASE ?= python:$(shell $(VENV)/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo 3.11)-slim

# what tells that other versions of the dependencies serve: no Kubernetes, and of the integration tests those of the engine
ENGINE_TESTS := tests/unit $(addprefix tests/integration/test_,engine.py engine_joblib.py events.py finished.py)

.PHONY: help demo test test-all test-upstream test-gallery test-browser test-works-with test-latest test-oldest check check-workflows dist format docs screenshot kind kind-down image manifests lock clean bench-startup bench-local bench-fidelity bench-stream bench-environment bench-story bench-engine

help: ## list what there is to do
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

demo: $(READY) ## run a grid search on this machine
	@$(VENV)/bin/skjob run --on local examples/digits_grid_search.py

test: $(COMPLETE) ## run what each landing must pass: unit, integration, upstream and kind, in 25 minutes at most
	@tests/kind/with-cluster $(VENV)/bin/python -m pytest -n 3 --no-loadscope-reorder -m "not slow" $(PYTEST_ARGS)

test-all: $(COMPLETE) $(GALLERY)/.fetched $(BROWSER)/.installed $(WORKS_WITH)/.installed ## run every test, the slow ones too: each night, an hour
	@tests/kind/with-cluster $(VENV)/bin/python -m pytest -n 3 --no-loadscope-reorder $(PYTEST_ARGS)

test-upstream: $(COMPLETE) ## run all of joblib's and scikit-learn's own tests with skjob's backend, and say what differs
	@$(VENV)/bin/python -m pytest tests/upstream $(PYTEST_ARGS)

test-gallery: $(COMPLETE) $(GALLERY)/.fetched ## run scikit-learn's own examples by plain Python and by skjob (ARGS="-k svm")
	@SKJOB_GALLERY=$(GALLERY) $(VENV)/bin/python -m pytest tests/integration/test_gallery.py $(ARGS) $(PYTEST_ARGS)

test-works-with: $(COMPLETE) $(WORKS_WITH)/.installed ## run programs with MLflow, W&B, Optuna, DVC and others by plain Python and by skjob (ARGS="-k dvc")
	@SKJOB_WORKS_WITH=$(WORKS_WITH) $(VENV)/bin/python -m pytest tests/integration/test_works_with.py $(ARGS) $(PYTEST_ARGS)

test-browser: $(COMPLETE) $(BROWSER)/.installed ## run notebooks in a browser: needs chromium
	@$(VENV)/bin/python -m pytest tests/browser $(PYTEST_ARGS)

test-latest: $(READY) ## run unit and engine tests with the newest versions that pyproject.toml allows
	@$(call test-with,highest,.venv-latest)

test-oldest: $(READY) ## run them with the oldest versions that pyproject.toml allows
	@$(call test-with,lowest-direct,.venv-oldest,-W "ignore:scipy.optimize:DeprecationWarning") # of old scikit-learn with new SciPy

check: $(COMPLETE) ## lint, type-check and build the documentation
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy --platform darwin --cache-dir .mypy_cache/darwin
	$(VENV)/bin/lint-imports
	@$(MAKE) docs

check-workflows: ## lint the workflows of GitHub Actions; needs Go
	@go run $(ACTIONLINT)

dist: $(READY) $(RELEASE)/.installed ## build wheel, sdist and chart into dist/, check them, and try the wheel on its own
	@rm -rf $(DIST) && mkdir -p $(DIST)/python $(DIST)/chart
	@$(VENV)/bin/uv build --quiet --no-create-gitignore --python $(VENV)/bin/python --out-dir $(DIST)/python
	@$(RELEASE)/bin/twine check --strict $(DIST)/python/*
	@helm=$$(tests/kind/cluster helm) && $$helm lint --quiet --strict helm/skjob && $$helm package helm/skjob \
	  --version $(VERSION) --app-version $(VERSION) --destination $(DIST)/chart
	@echo "==> Trying the wheel in an environment with nothing else" >&2
	@$(VENV)/bin/uv venv --quiet --clear --python $(VENV)/bin/python $(DIST)/tried
	@$(VENV)/bin/uv pip install --quiet --python $(DIST)/tried/bin/python --constraint requirements.lock $(DIST)/python/*.whl
	@[ "$$($(DIST)/tried/bin/skjob --version)" = "skjob $(VERSION)" ]
	@mkdir $(DIST)/tried/demo && cp examples/digits_grid_search.py $(DIST)/tried/demo
	@cd $(DIST)/tried/demo && ../bin/skjob run --on local --workers 2 digits_grid_search.py
	@rm -rf $(DIST)/tried

docs: $(COMPLETE) $(DOCS)/.installed ## build the documentation into build/docs; a warning is an error
	PYTHONPATH=$(DOCS)/packages $(VENV)/bin/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going --builder html docs build/docs

screenshot: $(READY) ## draw the README's picture of the live view
	@$(VENV)/bin/python docs/screenshot.py

format: $(COMPLETE) ## format the code and repair what the linter can
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

bench-startup: $(COMPLETE) ## time a start beside stock KubeCluster, on the cluster of `make kind`
	@$(VENV)/bin/python benchmarks/startup.py

bench-local: $(READY) ## time an empty script and the digits example on this machine beside Python alone (ARGS="--rounds 5")
	@$(VENV)/bin/python benchmarks/local_run.py $(ARGS)

bench-fidelity: $(COMPLETE) ## time what it costs that a task behaves as in plain Python, and calls of a moment
	@$(VENV)/bin/python benchmarks/fidelity.py $(ARGS)

bench-stream: $(READY) ## time what it costs to report each fit as it finishes (ARGS="--fits 1000")
	@$(VENV)/bin/python benchmarks/stream.py $(ARGS)

bench-environment: $(COMPLETE) ## time the ways to an environment of 86 distributions, on the cluster of `make kind`
	@$(VENV)/bin/python benchmarks/environment.py

bench-story: $(COMPLETE) ## time the examples on this machine and on the cluster of `make kind` (ARGS="forest --rounds 1")
	@$(VENV)/bin/python benchmarks/story.py $(ARGS)

bench-engine: $(BENCH)/.installed ## the engine beside stock joblib+Dask, loky, dask-ml and Ray (ARGS="a c --rounds 1")
	@$(BENCH)/bin/python benchmarks/engine $(ARGS)

manifests: $(READY) ## render k8s/ from the chart, and bring its custom resources up to date
	@PATH=$$PATH:$$(dirname "$$(tests/kind/cluster helm)") $(VENV)/bin/python k8s/render.py

lock: $(READY) ## bring the locks up to date (UPGRADE=--upgrade for newer versions)
	@$(COMPILE) $(UPGRADE) --group dev --output-file requirements-dev.lock pyproject.toml image-requirements.in
	@$(COMPILE) --constraint requirements-dev.lock --output-file requirements.lock pyproject.toml
	@$(COMPILE) --no-annotate --override image-overrides.txt --constraint requirements-dev.lock image-requirements.in \
	  | grep -v "; sys_platform == 'never'$$" > image-requirements.lock # what the overrides exclude, uv keeps with a condition
	@$(COMPILE) --no-annotate --constraint requirements-dev.lock $(foreach there,jinja2 markupsafe narwhals numpy packaging pyyaml \
	  tornado,--no-emit-package $(there)) --output-file image-dashboard.lock image-dashboard.in # without what the image has
	@$(COMPILE) --no-annotate --constraint requirements-dev.lock --output-file benchmarks/requirements.txt benchmarks/requirements.in
	@$(COMPILE) --no-annotate --constraint requirements-dev.lock --group browser --output-file requirements-browser.lock
	@$(COMPILE) --no-annotate --constraint requirements-dev.lock --group gallery $(foreach there,numpy packaging python-dateutil six,\
	  --no-emit-package $(there)) --output-file requirements-gallery.lock # without what skjob has brought
	@$(COMPILE) --no-annotate --group works-with --output-file requirements-works-with.lock pyproject.toml
	@$(COMPILE) --no-annotate --constraint requirements-dev.lock --group release --output-file requirements-release.lock
	@$(COMPILE) --no-annotate --constraint requirements-dev.lock --group docs $(foreach there,certifi charset-normalizer colorama idna \
	  jinja2 markdown-it-py markupsafe mdurl packaging pygments pyyaml requests typing-extensions urllib3,--no-emit-package $(there)) \
	  --output-file requirements-docs.lock # without what the tests have

clean: ## remove what was installed and built here; not the cluster
	@rm -rf $(VENV) $(BENCH) $(GALLERY) $(DOCS) $(BROWSER) $(WORKS_WITH) $(RELEASE) .venv-latest .venv-oldest build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(READY): pyproject.toml requirements.lock
	@[ -n "$(PYTHON)" ] || { echo "error: no Python 3.11 or later found" >&2; \
	  echo "hint: install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV) && $(MAKE) $(VENV); }
	@echo "==> Installing what skjob needs into $(VENV)" >&2
	@$(call install,$(VENV),--requirement requirements.lock --editable .)
	@touch $@

$(COMPLETE): $(READY) requirements-dev.lock
	@echo "==> Installing the tools of developers and tests into $(VENV)" >&2
	@$(call install,$(VENV),--requirement requirements-dev.lock)
	@touch $@

$(GALLERY)/.fetched: requirements.lock requirements-gallery.lock tests/integration/fetch_gallery.py | $(COMPLETE)
	@echo "==> Fetching scikit-learn's examples" >&2
	@rm -rf $(GALLERY)
	@$(VENV)/bin/python tests/integration/fetch_gallery.py $(GALLERY)/examples
	@$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --no-deps --target $(GALLERY)/packages \
	  --requirement requirements-gallery.lock
	@touch $@

$(DOCS)/.installed: requirements-docs.lock | $(COMPLETE)
	@echo "==> Installing what builds the documentation into $(DOCS)" >&2
	@rm -rf $(DOCS)
	@$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --no-deps --target $(DOCS)/packages \
	  --requirement requirements-docs.lock
	@touch $@

$(WORKS_WITH)/.installed: pyproject.toml requirements-works-with.lock | $(READY)
	$(call environment,$(WORKS_WITH),libraries that surround scikit-learn programs,--requirement requirements-works-with.lock --editable .)

$(RELEASE)/.installed: requirements-release.lock | $(READY)
	$(call environment,$(RELEASE),what checks distributions,--requirement requirements-release.lock)

$(BROWSER)/.installed: pyproject.toml requirements-browser.lock | $(COMPLETE)
	$(call environment,$(BROWSER),JupyterLab and skjob,--requirement requirements.lock --requirement requirements-browser.lock --editable .)

$(BENCH)/.installed: $(READY) benchmarks/requirements.txt
	$(call environment,$(BENCH),what is compared with,--requirement requirements.lock --requirement benchmarks/requirements.txt --editable .)

# uv takes seconds where pip takes minutes. pip brings it where there is none, and does all itself where uv cannot.
define install
uv=uv; $$uv --version >/dev/null 2>&1 || { \
  uv=$(VENV)/bin/uv; [ -x $$uv ] || $(VENV)/bin/python -m $(PIP_INSTALL) --constraint requirements.lock uv; }; \
$$uv pip install --quiet --python $(1)/bin/python --no-deps $(2) || { \
  echo "==> uv could not install this: pip does, which takes minutes" >&2; \
  $(1)/bin/python -m $(PIP_INSTALL) --no-deps $(2); }
endef

# an environment of its own: the folder, what is installed there in words, and the same for pip
define environment
@echo "==> Installing $(2) into $(1)" >&2
@$(VENV)/bin/python -m venv --clear $(1)
@$(call install,$(1),$(3))
@touch $@
endef

# an environment with other versions than the locked ones, the tests with it, and what differs
define test-with
echo "==> Installing the versions for this into $(2)" >&2 && \
$(VENV)/bin/uv venv --quiet --clear --python $(VENV)/bin/python $(2) && \
$(VENV)/bin/uv pip install --quiet --python $(2)/bin/python --resolution $(1) --group test --editable . && \
{ $(VENV)/bin/uv pip freeze --quiet --python $(2)/bin/python --exclude-editable \
  | grep -vFf <(sed -nE 's/^([^ ]+==[^ ]+).*/\1/p' requirements-dev.lock) || true; } && \
$(2)/bin/python -m pytest -n 2 --no-loadscope-reorder -m "not slow" $(3) $(ENGINE_TESTS) $(PYTEST_ARGS)
endef

# Debian and Ubuntu package venv apart
$(VENV):
	@echo "==> Creating $(VENV) with $(PYTHON)" >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  package=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "==> Installing $$package" >&2; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$$package" >/dev/null; \
	  else \
	    echo "error: $(PYTHON) cannot make virtual environments" >&2; \
	    echo "hint: sudo apt-get install $$package" >&2; exit 1; \
	  fi; }
	@$(PYTHON) -m venv $(VENV)

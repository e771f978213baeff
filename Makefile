# Two commands for a new machine, each doing its own set-up: `make demo` and `make test`.
#
# Needed beforehand: make, and any Python >= 3.8 with venv or pip. uv is taken from PATH or
# installed into .tools/; CPython comes from this machine if the version of .python-version is
# installed (also by pyenv), and is downloaded by uv otherwise. Nothing outside this directory is
# changed but uv's cache. Once set up and run, no target needs the network.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

# An activated environment, or one's own module path, must not leak into what is built and tested.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME CONDA_PREFIX

# uv brings certificates of its own; a machine behind a company's proxy has more.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem),)
export UV_SYSTEM_CERTS ?= 1
endif

BIN := .venv/bin
PYTHON := $(BIN)/python
OLDEST := 3.12

# Which CPython the environment has, and which one the wheel is checked on: CI takes each in turn.
DEV_PYTHON ?= $(shell cat .python-version)
WHEEL_PYTHON ?= $(OLDEST)
TWINE := twine==7.0.0

DEMO_DB ?= .tools/demo.db
DEMO_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
SYNC_ARGS ?= --extra dev

.PHONY: help setup demo test lint format types imports test-unit test-oldest test-fast test-more test-slow \
	check-wheel wheel bench docs coverage check-release clean

help:  ## what each target does
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# `uv sync` answers in a fraction of a second, and offline, when there is nothing to do; asking it
# every time also repairs an environment whose interpreter was upgraded away. Compiled at once, as
# a process that resumes after a kill pays for importing the SDK first: 0.3 s compiled, 1.2 s not.
# Our own packages too, as PYTHONDONTWRITEBYTECODE would have each process compile them again.
setup:  ## uv, CPython and .venv from the lock file (run by every other target)
	@set -e; uv=$$(scripts/find-uv); \
	python=$$(scripts/find-python "$(DEV_PYTHON)"); \
	"$$uv" sync --locked --quiet --compile-bytecode $(SYNC_ARGS) --python "$${python:-$(DEV_PYTHON)}"; \
	"$${UV_PROJECT_ENVIRONMENT:-.venv}/bin/python" -m compileall -q executor promises store durable

demo: setup  ## count the standard library in durable steps; kill it and run it again
	@mkdir -p $(dir $(DEMO_DB))
	@echo "Kill this at any moment (Ctrl-C, or kill -9 from another terminal) and 'make demo' again:"
	@echo "it goes on where it was. DEMO_ARGS=--force starts a finished one over."
	$(BIN)/sostenuto run examples/stdlib_census.py --db $(DEMO_DB) $(DEMO_ARGS)

test: lint types imports check-wheel test-fast  ## every check but the slow tests

lint: setup  ## ruff: rules and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: setup  ## rewrite the files as ruff formats them
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: setup  ## mypy, strict
	$(BIN)/mypy

imports: setup  ## the one-way imports between the packages
	$(BIN)/lint-imports

test-fast: test-unit test-more  ## all tests but the slow ones, on the Python of .python-version

test-unit: setup  ## the unit tests on the Python of .python-version, on every core
	$(PYTHON) -m pytest -m "unit and not slow" -n auto --dist worksteal $(PYTEST_ARGS)

test-more: setup  ## the tests with processes, signals and whole programs, which mostly wait
	$(PYTHON) -m pytest -m "not unit and not slow" -n auto --dist worksteal $(PYTEST_ARGS)

test-slow: setup  ## the long fault and scale tests
	$(PYTHON) -m pytest -m slow $(PYTEST_ARGS)

test-oldest: setup  ## the unit tests on the oldest Python supported, from the lock file
	@set -e; python=$$(SOSTENUTO_REQUIRE_PYTHONS=1 scripts/get-python $(OLDEST)); \
	export UV_PROJECT_ENVIRONMENT=.tools/python-$(OLDEST); \
	"$$(scripts/find-uv)" sync --locked --quiet $(SYNC_ARGS) --python "$$python"; \
	"$$UV_PROJECT_ENVIRONMENT/bin/python" -m pytest -m "unit and not slow" \
		-n auto --dist worksteal $(PYTEST_ARGS)

# On the oldest Python, so that one run of the unit tests covers both it and the wheel.
check-wheel: setup  ## build the wheel, install it in an empty environment, run examples and unit tests
	@set -e; python=$$(scripts/get-python $(WHEEL_PYTHON)); \
	test -n "$$python" || echo "NOT RUN on CPython $(WHEEL_PYTHON): the wheel is checked on another."; \
	UV=$$(scripts/find-uv) $(PYTHON) scripts/check_wheel.py --python "$${python:-$(PYTHON)}"

wheel: setup  ## build dist/*.whl and the source archive
	$$(scripts/find-uv) build --quiet --python $(PYTHON) --out-dir dist
	@ls -1 dist/*.whl dist/*.tar.gz

# In an environment of its own, so that the peers it measures stay out of the tests'. Restate's
# server is measured where it is found: npm install --prefix .tools/restate @restatedev/restate-server
bench: export UV_PROJECT_ENVIRONMENT = .tools/bench
bench: SYNC_ARGS = --extra bench
bench: setup  ## the benchmarks beside the peers: .tools/bench.json and a table (BENCH_ARGS=--full: everything)
	.tools/bench/bin/python tests/bench/collect.py --out .tools/bench.json $(BENCH_ARGS)

docs: SYNC_ARGS += --extra docs
docs: setup  ## the documentation as a site in .tools/site; a broken link or reference fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Measured code is slower than a user's, so the one test of a latency between processes is left out.
coverage: setup  ## the fast tests with a report of the branches they reach, also in htmlcov/
	$(PYTHON) -m pytest -m "not slow" --cov --cov-report=term --cov-report=html --cov-report=xml \
		--deselect tests/faults/test_durable_promises.py::test_a_waiter_wakes_within_50_ms_of_a_settlement_in_another_process \
		$(PYTEST_ARGS)

check-release: setup wheel  ## what is uploaded: metadata, contents and types of dist/
	"$$(scripts/find-uv)" tool run $(TWINE) check --strict dist/*.whl dist/*.tar.gz

clean:  ## remove what the other targets made (uv's cache and downloaded Pythons stay)
	rm -rf .venv .tools dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache \
		examples/.ruff_cache .hypothesis .coverage .coverage.* coverage.xml htmlcov
	find executor promises store durable examples tests scripts -name __pycache__ -type d \
		-prune -exec rm -rf {} +

# A virtual environment is made in .venv; nothing else on the machine is touched.
# Choose another interpreter with PYTHON=..., pass options to the tests with PYTEST_FLAGS=...

PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
PYTEST_FLAGS ?=
BIN := .venv/bin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup validate test test-offline check lint types ontology ontology-check rules rules-check audit site lock licences sbom bench soak fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python found. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is too old. Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments. On Debian: apt-get install python3-venv" >&2; exit 1; }
	"$(PYTHON)" -m venv .venv

# The stamps depend on what was installed, so that a second run installs nothing.
.venv/run.stamp: requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

.venv/dev.stamp: requirements-dev.lock .venv/run.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

setup: .venv/dev.stamp ## make .venv with all that developers need

# Some of the examples are about patients who are not eligible (exit 1) or about whom more must be
# known (exit 3): both are answers. Exit 2 and anything else means that the program could not run.
validate: .venv/run.stamp ## validate the example patients and print the report
	@$(BIN)/sarc-kb validate examples || case $$? in 1|3) ;; *) exit 1 ;; esac

# Tests of one group share what takes long to make, in one of the two processes. One that hangs fails,
# and its stack is told.
test: .venv/dev.stamp ## run the tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup --timeout 1200 $(PYTEST_FLAGS)

test-offline: .venv/dev.stamp ## run the tests with the network off (Linux)
	$(BIN)/python -m supply.offline $(MAKE) test

check: lint types ontology-check rules-check ## style, types, ontology and rules

lint: .venv/dev.stamp ## style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev.stamp ## types of the program
	$(BIN)/mypy

ontology: .venv/dev.stamp ## let the reasoner rebuild ontology/inferred.ttl (needs Java)
	$(BIN)/python -m sarc_kb.ontology_build

ontology-check: .venv/dev.stamp ## consistency, quality queries, inferred.ttl up to date (needs Java)
	$(BIN)/python -m sarc_kb.ontology_build --check

rules-check: .venv/run.stamp ## is the rule base well-formed?
	$(BIN)/sarc-kb check

rules: .venv/run.stamp ## after a change to rules or ontology: check, and note what was checked
	$(BIN)/sarc-kb check --stamp

# The locks name versions and hashes alone, never where they were fetched from.
lock: export CUSTOM_COMPILE_COMMAND = make lock
lock: COMPILE = $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host
lock: .venv/dev.stamp ## resolve the dependencies anew and write the lock files
	$(COMPILE) --upgrade --output-file requirements.lock pyproject.toml
	$(COMPILE) --upgrade --allow-unsafe --all-extras --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
	$(COMPILE) --upgrade --extra service --constraint requirements.lock --output-file requirements-service.lock pyproject.toml

licences: .venv/dev.stamp ## write the lists of docs/licences.md, after `make lock`
	$(BIN)/python -m supply.licences

sbom: .venv/dev.stamp ## write the bill of materials (CycloneDX) into build
	$(BIN)/python -m supply.sbom

audit: .venv/dev.stamp ## audit the rule base into build/audit.json (some minutes)
	@mkdir -p build
	@$(BIN)/sarc-kb audit --workers 2 --format json --output build/audit.json; code=$$?; \
	$(BIN)/python -c 'import json; [print(p["name"], p["status"], p["summary"], sep="  ") for p in json.load(open("build/audit.json"))["parts"]]'; \
	exit $$code

# AUDIT names what `sarc-kb audit --format json --output FILE` wrote, such as `make audit` does; without it the page on coverage
# shows the words of the record alone.
site: .venv/dev.stamp ## build the documentation, with the rule book beside it, into build/site
	rm -rf build/site
	$(BIN)/python -m sphinx -b html -c docs/site -d build/site-trees -E -q -W -n --keep-going . build/site
	$(BIN)/sarc-kb docs $(if $(AUDIT),--audit "$(AUDIT)") $(if $(wildcard .git),--history) --output build/site/rule-book
	$(BIN)/python docs/site/check_links.py build/site

bench: .venv/dev.stamp ## measure
	$(BIN)/python -m benchmarks

# Both keep what they did under build/ and go on from there.
PATIENTS ?= 100000
SECONDS ?= 60
WORKERS ?= 1
soak: .venv/dev.stamp ## every engine on PATIENTS generated patients (a day or more), then an hour of fuzzing a reader
	$(BIN)/python -m tests.soak --patients $(PATIENTS) --workers $(WORKERS)
	$(BIN)/python -m tests.fuzz --seconds 3600

fuzz: .venv/dev.stamp ## fuzz each reader for SECONDS seconds
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

clean: ## remove .venv and everything that was built
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

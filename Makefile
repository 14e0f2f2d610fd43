# The commands for a checkout. On a bare Debian 12 with Python 3.11, `make demo` and `make test` need
# nothing else: each installs what is missing, and is fast the second time.

VENV := .venv
BIN := $(VENV)/bin

# The first Python that is new enough; choose another one with `make PYTHON=...`.
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null \
	&& echo "$$python" && break; done)

# For tests in several processes, each with its own services. The hash seed is fixed so that all
# processes collect the same tests. Bytecode is written, so that programs they start are compiled once.
AT_ONCE := PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=

PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

.PHONY: help venv demo demo-openstack services lab-environment lab lab-stop test test-versions test-releases image record-runs check types style imports quick-tests bench campaigns exhaustive config-sample docs constraints clean
.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/.for-tests ## Create .venv with everything for development and tests

demo: $(VENV)/.for-use ## Run the demo: the use cases on embedded parts, with their results
	@$(BIN)/detachd demo

demo-openstack: services venv lab-environment ## Run the demo on a small real OpenStack with real iSCSI
	@$(BIN)/python -m tests.lab_service.demo

services: ## Install RabbitMQ, PostgreSQL, MariaDB, promtool, tgt ... if missing (root; starts none)
	@tools/install-services
	@tools/install-debian 13

lab-environment: venv ## Install the OpenStack of tests/lab, outside the checkout (once; takes minutes)
	@$(BIN)/python -m tests.lab.environment

lab: services venv lab-environment ## Start a small real OpenStack (tests/lab) and print how to use it
	@$(BIN)/python -m tests.lab start

lab-stop: venv ## Stop the OpenStack of `make lab`
	@$(BIN)/python -m tests.lab stop

test: services venv lab-environment ## Run all tests, in six parts; tests of missing programs are skipped, or fail if CI=true
	@tools/run-tests

check: venv ## Run lint, types, import rules, unit and property tests: a minute, no services
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target types quick-tests style imports

test-versions: venv ## Run the quick tests with other releases and Pythons: two minutes for each
	@PYTHON="$(PYTHON)" tools/test-versions

test-releases: services venv ## Run the behaviour suite and the use cases on an older OpenStack: 15 minutes for each
	@tools/test-releases

image: venv ## Build the image of deploy/Containerfile and run it (root, podman): two minutes
	@tools/build-image

record-runs: services venv lab-environment ## Run what docs/compatibility.md is made from, and record it: an hour
	@tools/record-runs

types: venv
	@$(BIN)/mypy --strict

style: venv
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

imports: venv
	@$(BIN)/lint-imports --no-logo

quick-tests: venv
	@$(AT_ONCE) $(BIN)/python -m pytest -q -n 4 --dist worksteal --hypothesis-profile=quick \
		-m "not integration and not slow" tests/unit tests/properties

bench: services venv ## Run the benchmarks (no other target runs them)
	@$(BIN)/python -m pytest --benchmarks --capture=no --timeout=0 tests/benchmarks

# Kills at random moments with each ledger, ten minutes in all, and outages of one minute.
campaigns: services venv lab-environment ## Run the long forms of the fault tests: about half an hour
	@DETACHD_CAMPAIGN_SECONDS=$${DETACHD_CAMPAIGN_SECONDS:-600} DETACHD_OUTAGE_SECONDS=60 \
		$(BIN)/python -m pytest --timeout=0 -k "long or away or cut_again or killed_in_the_midst" tests/faults
	@DETACHD_CAMPAIGN_SECONDS=$${DETACHD_CAMPAIGN_SECONDS:-300} \
		$(BIN)/python -m pytest -m lab tests/lab_service/test_campaign.py

exhaustive: venv ## Search every interleaving of small worlds, and take each safeguard away in turn: 20 minutes
	@DETACHD_EXHAUSTIVE=1 $(BIN)/python -m pytest --timeout=0 --capture=no tests/exhaustive

config-sample: $(VENV)/.for-use ## Write etc/detachd.conf.sample again, after a change of an option
	@$(BIN)/oslo-config-generator --config-file etc/config-generator.conf

docs: $(VENV)/.for-use ## Write the pages again that are made from the code and from records: rules, commands, compatibility
	@$(BIN)/python -m handlers.judgement.page docs/rules.md
	@$(BIN)/python -m tests.compatibility.page
	@$(BIN)/python -m consumer.cli.page docs/cli.md docs/detachd.1

constraints: ## Write constraints.txt again, with the newest releases that setup.cfg allows
	@PYTHON="$(PYTHON)" tools/write-constraints

clean: ## Remove caches and build results (not .venv)
	@rm -rf build dist *.egg-info .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache \
		.ruff_cache .import_linter_cache
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(VENV)/.for-use: constraints.txt setup.cfg pyproject.toml | $(BIN)/python
	@echo "Installing detachd into $(VENV) ..."
	@$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.for-tests: constraints.txt setup.cfg pyproject.toml | $(BIN)/python
	@echo "Installing detachd and its tools into $(VENV) ..."
	@$(PIP_INSTALL) --editable '.[test]'
	@touch $@ $(VENV)/.for-use

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { \
		echo "detachd needs Python 3.11 or newer; none was found (choose one: make PYTHON=...)." >&2; exit 1; }
	@PYTHON="$(PYTHON)" tools/install-services venv
	@"$(PYTHON)" -m venv --clear $(VENV)

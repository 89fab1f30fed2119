# Kang 炕. `make` lists the targets; everything bootstraps itself from a bare Python 3.11.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/dev.txt
export PYTHONPATH := .
SEEDS ?= 1000
# what starts no process of its own, and so may run beside its like
LIGHT := not slow and not browser and not interop

.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(VENV)/.ready: $(LOCK)
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: $(PYTHON) was not found"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/pip install --quiet --require-hashes -r requirements/bootstrap.txt
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes $(LOCK) requirements/bootstrap.txt
	@touch $@

env: $(VENV)/.ready  ## make the virtual environment from the hashed lock

build: env  ## generate protobuf code and build the web pages
	@$(BIN)/python hatch_build.py

demo: build  ## run the whole platform with live simulated plants, print the address and one-time sign-ins
	@$(BIN)/python -m cloud.cli --home build/demo demo

up: build  ## run the platform alone
	@$(BIN)/python -m cloud.cli --home build/home up

lint: build  ## format, lint, types, floors
	@$(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports && $(BIN)/bandit -q -c pyproject.toml -r -ll cloud protos edge_agent optimizers

fast: build  ## tests that start no processes
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "$(LIGHT)" tests

test: build lint peers  ## everything .ci/run demands, under 15 minutes
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "$(LIGHT)" tests
	@$(BIN)/python -m pytest -m "not ($(LIGHT)) and not minutes" tests

peers: env  ## independent peers for interoperability tests (npm, into build/peers)
	@test -d build/peers/node_modules/modbus-serial || PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.interop.peers

simulate: build  ## deterministic simulation, SEEDS=n
	@$(BIN)/python -m tests.simulation.run --seeds $(SEEDS)

faults: build  ## kill campaigns over the real stack; QUICK=1 for a smaller one
	@$(BIN)/python -m tests.faults.campaign
	@$(BIN)/python -m tests.faults.rotation

fuzz: build  ## a million hostile inputs for every decoder
	@$(BIN)/python -m tests.fuzz.fuzz_decoders

api-fuzz: build  ## schemathesis over our OpenAPI, 200 examples an operation, each role; EXAMPLES=n
	@$(BIN)/python -m tests.portal.api_fuzz --examples $(or $(EXAMPLES),200)

tls-check: build  ## sslyze against every TLS listener of a live platform, Mozilla intermediate
	@$(BIN)/python -m tests.interop.tls_check

bench-suites: build  ## what the SM suite costs against the standard one: printed, not judged
	@$(BIN)/python -m benchmarks.suites

bench-priority: build  ## the urgent class under a 400-way flood, with and without classes
	@$(BIN)/python -m benchmarks.priority

conformance: build  ## the table of 59 function points and the platform rows, with the tests that take minutes of metering
	@$(BIN)/python -m tests.conformance.table

bench: bench-data bench-commands bench-optimizers  ## every benchmark there is

bench-data: build  ## the data plane as ratios; QUICK=1 for a smaller run
	@$(BIN)/python -m benchmarks.data

bench-optimizers: env  ## optimizers against PuLP, CBC, scipy, linopy, PyPSA, oemof, EMHASS, FlexMeasures, OpenDSM and FMPy; ROWS=B1,B2, QUICK=1
	@$(BIN)/python -m benchmarks.optimizers $(if $(ROWS),--rows $(ROWS))

bench-commands: build  ## command round trips against bare NATS and bare gRPC
	@$(BIN)/python -m benchmarks.commands

bench-loop: env  ## a measured month in closed loop: planner against thermostat, valley schedule and foresight; PLANTS=a,b QUICK=1
	@$(BIN)/python -m benchmarks.loop

bench-portfolio: env  ## one demand-response event over 1,000 simulated projects: allocation, delivery by the minute, rooms, rebound; scaling to 5,000; QUICK=1
	@$(BIN)/python -m benchmarks.portfolio

docs: env  ## build the documentation into build/docs
	@$(BIN)/mkdocs build --quiet --strict --site-dir build/docs

lock: env  ## resolve the dependencies again
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --all-extras --group dev pyproject.toml -o requirements/dev.txt
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --extra edge-grpc --extra edge-nats pyproject.toml -o requirements/edge.txt
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --extra cloud pyproject.toml -o requirements/cloud.txt

clean:  ## remove what was built, the demo's data included
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis cloud/portal/static
	@find . -name '*_pb2*.py*' -not -path './.venv/*' -delete


.PHONY: api-fuzz tls-check bench-portfolio bench-priority bench-suites bench-optimizers
.PHONY: help env build demo up lint fast test peers simulate faults fuzz conformance bench bench-data bench-commands docs lock clean

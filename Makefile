# `make` prints the verbs. Everything they need is made in .venv and tests/node/node_modules.

PYTHON ?= python3
BIN    := .venv/bin
NODE   := tests/node/node_modules/.package-lock.json

.DEFAULT_GOAL := help
.PHONY: help install demo test soak simulate lint pitfalls cases bench bench-peers lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("depositd needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check \
		--no-deps --no-build-isolation -e .
	@touch $@

install: .venv/installed  ## the environment in .venv, with depositd in it

demo: install  ## everything on simulated nodes; BLOCKS=20 ends by itself
	$(BIN)/depositd demo $(if $(BLOCKS),--blocks $(BLOCKS))

$(NODE): tests/node/package-lock.json
	cd tests/node && npm ci --silent --no-audit --no-fund

node: $(NODE)

test: install node  ## the tests, shortened runs (needs Node 20+ for anvil)
	$(BIN)/pytest --numprocesses 4 --dist loadfile $(TESTS)

soak: install node  ## the full numbers: 100 kills, long histories
	DEPOSITD_SOAK=1 $(BIN)/pytest $(TESTS)

simulate: install  ## SEEDS=1000 histories by seed, held to the promises; planted bugs
	$(BIN)/python -m tests.simulation $(if $(SEEDS),--seeds $(SEEDS))

lint: install  ## ruff and strict mypy, packages and tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

pitfalls: install  ## the table pitfall, test, state
	@$(BIN)/python -m tests.pitfalls

cases: install  ## the table fault case of callbacks, test, state
	@$(BIN)/python -m tests.cases

bench: install  ## figures beside their floors, in one run
	$(BIN)/python -m tests.bench

bench-peers: install  ## depositd and other indexers at the same blocks (needs npm; installs them in .peers)
	$(BIN)/python -m tests.bench.peers

lock: install  ## pin again what pyproject.toml asks for
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --extra dev \
		--no-emit-index-url --no-header -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
		--no-emit-index-url --no-header --no-annotate -c requirements.lock \
		-o docker/requirements.lock pyproject.toml docker/build.in

clean:  ## remove what the verbs made
	rm -rf .venv .depositd .peers tests/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Everything sets itself up: a fresh machine needs Python 3.11 and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Every start of a server or a child would compile all modules anew where this is set.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test clients faults explore lint bench format revision clean
.DEFAULT_GOAL := demo

$(STAMP): pyproject.toml ingest/sdk/pyproject.toml constraints.txt dev-requirements.txt
	@test -n "$(PYTHON)" || { echo "Lowlight needs Python 3.11 or later on the PATH; install it and run make again."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Lowlight needs Python 3.11 or later; name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing into $(VENV) (once, about a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . -e ingest/sdk -r dev-requirements.txt
	@touch $@

demo: $(STAMP)
	@$(BIN)/lowlight demo $(ARGS)

# Three workers for two cores: tests of servers wait a good part of their time. Files keep the order of
# tests/conftest.py, the longest first.
PYTEST = $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --ignore=tests/clients

test: $(STAMP)
	@$(BIN)/python -m tests.setup_browser
	@$(PYTEST) $(ARGS)

# The property tests with other examples than `make test` draws, and 20 times as many. A find prints its seed's
# line, and is kept in .hypothesis and tried first: make explore ARGS="--hypothesis-seed 7 tests/unit".
TIMES ?= 20
explore: $(STAMP)
	@$(PYTEST) -m hypothesis --explore $(TIMES) $(ARGS)

# What production does to a server, at length: 100 times kill -9, a full disk, a locked file, a crowd of clients.
faults: $(STAMP)
	@$(BIN)/python -m pytest tests/faults -m "long or not long" --explore 1 -v --durations=10 $(ARGS)

# The packages that docs/opentelemetry.md names, each in an environment of its own, and
# the page's lines run with them.
clients: $(STAMP)
	@$(BIN)/python -m tests.clients.install
	@$(BIN)/python -m pytest tests/clients $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file ingest/sdk/pyproject.toml --no-site-packages -p lowlight
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	@test -n "$(BENCH)" || { echo "Name one: make bench BENCH=intake (they are in tests/bench)"; exit 2; }
	@$(BIN)/python -m tests.bench.$(subst -,_,$(BENCH)) $(ARGS)


# A new revision from the tables: make revision MESSAGE="keep X"
revision: $(STAMP)
	@$(BIN)/python -m api.migrations.revise "$(MESSAGE)"

clean:
	rm -rf $(VENV) .venv-clients .mypy_cache .ruff_cache .pytest_cache

# Everything is run from here, in a virtual environment of its own (.venv).
PYTHON ?= python3
# Three processes, as many tests wait for something, each on a PostgreSQL of its own; tests/conftest.py says what one of them takes at a time.
PYTEST_ARGS ?= -n 3 --dist loadfile --no-loadscope-reorder
# Whatever the environment says: what is imported is compiled once, and not anew by each of hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

# What aiohttp could change.
HTTP_TESTS := tests/http tests/features/test_embedding.py

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
PLUGINS := $(wildcard plugins/*/pyproject.toml)
METADATA := pyproject.toml setup.cfg $(PLUGINS)
# Editable, so that what is changed here is what runs. All at once, so that no plugin asks an index for pegboard.
PACKAGES := -e '.[embedded]' $(foreach plugin,$(PLUGINS),-e $(dir $(plugin)))

.PHONY: run test test-lowest lint format bench failover clean

run: .venv/installed ## serve on http://127.0.0.1:8080
	@exec $(BIN)/pegboard serve

test: .venv/developing ## run the tests; PYTEST_ARGS='-n 2 tests/query/test_query.py' chooses how and which
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# Where the newest aiohttp that is allowed is also the lowest, `test` has run them.
test-lowest: .venv/developing ## run the tests of HTTP on the lowest aiohttp that is allowed
	@lowest=$$(sed -n 's/.*"aiohttp>=\([0-9.]*\),.*/\1/p' pyproject.toml); \
	present=$$($(BIN)/python -c 'import aiohttp; print(aiohttp.__version__)'); \
	if [ "$$lowest" = "$$present" ]; then echo "aiohttp $$present is the lowest and the newest."; exit; fi; \
	trap '$(PIP) install "aiohttp=='$$present'" -e .' EXIT; \
	$(PIP) install "aiohttp==$$lowest" && $(BIN)/python -m pytest $(PYTEST_ARGS) $(HTTP_TESTS)

lint: .venv/developing ## check the form and the types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml

format: .venv/developing ## bring the source into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/developing ## measure the service beside its yardstick
	$(BIN)/python -m benchmarks

failover: .venv/developing ## kill the leader of a PostgreSQL cluster under load, and look for what was acknowledged
	$(BIN)/python -m benchmarks.failover

clean: ## remove what was made here, but for the data in .pegboard
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf build dist service/*.egg-info plugins/*/build plugins/*/dist plugins/*/*.egg-info
	find benchmarks plugins service tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last: an installation that failed is tried again.
.venv/made:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/it")'
	@echo "Preparing .venv; the first time takes a minute."
	$(PYTHON) -m venv .venv
	@touch $@

# What is used is compiled when it is first imported; to compile all of it takes longer than the rest.
.venv/installed: .venv/made $(METADATA)
	$(PIP) install --no-compile $(PACKAGES)
	@touch $@

.venv/developing: .venv/installed
	$(PIP) install --upgrade 'pip>=25.1'
	$(PIP) install --group dev
	@touch $@

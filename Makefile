# All targets run in the virtual environment .venv.
PYTHON ?= python3
# Many tests wait, so use three processes, each with its own PostgreSQL. tests/conftest.py distributes the tests.
PYTEST_ARGS ?= -n 3 --dist loadfile --no-loadscope-reorder
# The tests start hundreds of processes: let these share compiled modules, whatever the environment sets.
unexport PYTHONDONTWRITEBYTECODE

# Tests that depend on the behaviour of aiohttp.
HTTP_TESTS := tests/http tests/features/test_embedding.py

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
PLUGINS := $(wildcard plugins/*/pyproject.toml)
METADATA := pyproject.toml setup.cfg $(PLUGINS)
# Editable, so that changes take effect. In one command, so that pip does not look for pegboard on an index.
PACKAGES := -e '.[embedded]' $(foreach plugin,$(PLUGINS),-e $(dir $(plugin)))

.PHONY: run test test-long test-all test-lowest lint format bench failover clean

run: .venv/installed ## serve on http://127.0.0.1:8080
	@exec $(BIN)/pegboard serve

test: .venv/developing ## run the tests; PYTEST_ARGS='-n 2 tests/query/test_query.py' chooses how and which
	$(BIN)/python -m pytest -m 'not long' $(PYTEST_ARGS)

test-long: .venv/developing ## run the tests that are long by nature
	$(BIN)/python -m pytest -m long $(PYTEST_ARGS)

test-all: test test-long ## run all tests

# If the installed aiohttp is already the oldest that is allowed, `test` has run them.
test-lowest: .venv/developing ## run the HTTP tests with the oldest aiohttp that is allowed
	@lowest=$$(sed -n 's/.*"aiohttp>=\([0-9.]*\),.*/\1/p' pyproject.toml); \
	present=$$($(BIN)/python -c 'import aiohttp; print(aiohttp.__version__)'); \
	if [ "$$lowest" = "$$present" ]; then echo "aiohttp $$present is the oldest that is allowed."; exit; fi; \
	trap '$(PIP) install "aiohttp=='$$present'" -e .' EXIT; \
	$(PIP) install "aiohttp==$$lowest" && $(BIN)/python -m pytest $(PYTEST_ARGS) $(HTTP_TESTS)

lint: .venv/developing ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml

format: .venv/developing ## format the source
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/developing ## compare the service with its baseline
	$(BIN)/python -m benchmarks

failover: .venv/developing ## kill the leader of a PostgreSQL cluster under load, and check for lost writes
	$(BIN)/python -m benchmarks.failover

clean: ## remove generated files, except the data in .pegboard
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf build dist service/*.egg-info plugins/*/build plugins/*/dist plugins/*/*.egg-info
	find benchmarks plugins service tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamp files are written last, so that a failed installation is retried.
.venv/made:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/it")'
	@echo "Preparing .venv; the first time takes a minute."
	$(PYTHON) -m venv .venv
	@touch $@

# Modules are compiled on first import; compiling all of them takes longer than the installation.
.venv/installed: .venv/made $(METADATA)
	$(PIP) install --no-compile $(PACKAGES)
	@touch $@

.venv/developing: .venv/installed
	$(PIP) install --upgrade 'pip>=25.1'
	$(PIP) install --group dev
	@touch $@

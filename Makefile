# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PEERS := .venv-peers/.installed
TEST := $(BIN)/python -m pytest -n 2 --dist loadscope
DEMO ?=
CATALOGUE ?=

.PHONY: help demo test test-long bench lint lock docs catalogue clean
help:
	@echo "make demo       train, attack and report on embedded data, no network"
	@echo "make test       the quick tests"
	@echo "make test-long  all tests"
	@echo "make bench      side-by-side measurements -> benchmarks/RESULTS.md"
	@echo "make lint       ruff and mypy"
	@echo "make lock       renew requirements.lock"
	@echo "make docs       renew the generated pages of docs/"
	@echo "make catalogue  renew the generated tables of the database (CATALOGUE=--fetch: with network)"
	@echo "make clean      delete .venv and all caches of the tools"

# A second make is instant: the environment is only touched when the lock or pyproject.toml is newer.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("SecurityNet needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/securitynet demo $(DEMO)

test: $(STAMP)
	$(TEST)

test-long: $(STAMP)
	$(TEST) -m ''

# The tools to compare with have an environment of their own; without network they are left out.
$(PEERS): $(wildcard benchmarks/requirements-peers.lock) $(STAMP)
	-$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-peers && \
	  $(BIN)/uv pip install --quiet --python .venv-peers/bin/python --require-hashes \
	  -r benchmarks/requirements-peers.lock && touch $(PEERS)

bench: $(STAMP) $(PEERS)
	$(BIN)/python benchmarks/run.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/python docs/generate.py

catalogue: $(STAMP)
	$(BIN)/python -m securitynet.catalogue.generate $(CATALOGUE)

lock:
	@test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet uv; }
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --extra test \
	  --custom-compile-command "make lock" pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	  --custom-compile-command "make lock" benchmarks/requirements-peers.in \
	  -o benchmarks/requirements-peers.lock

clean:
	rm -rf .venv .venv-peers build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

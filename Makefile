# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help demo test test-long bench lint lock docs clean
help:
	@echo "make demo       train, attack and report on embedded data, no network"
	@echo "make test       the quick tests (<= 10 minutes)"
	@echo "make test-long  all tests"
	@echo "make bench      side-by-side measurements -> benchmarks/RESULTS.md"
	@echo "make lint       ruff and mypy"
	@echo "make lock       renew requirements.lock"
	@echo "make docs       renew the generated pages"

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/securitynet demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadgroup

test-long: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m ""

bench: $(STAMP)
	$(BIN)/python benchmarks/run.py

lint: $(STAMP)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/python docs/generate.py

lock:
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --extra test --no-header \
	  pyproject.toml -o requirements.lock

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache

# Everything a newcomer needs: `make demo` runs the main job, `make test` passes the tests. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
SHELL := /bin/bash

.PHONY: setup demo test check bench stress clean

setup: .venv/installed

# pip compiles on one core; compileall takes them all. Some packages ship files that no Python compiles: they are not imported.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("nas needs Python 3.11 or newer, and this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -qq --no-compile -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	@touch $@

demo: setup
	$(BIN)/nas demo

# Two processes, a file at a time, in their order: tests of one file share what takes long to make, and files of one long test
# would come last otherwise.
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

# What hostile input does (none may end in a traceback), and the cases beside the checkout, where there are any.
stress: setup
	$(BIN)/python stress/hostile.py
	$(BIN)/python stress/cases.py

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

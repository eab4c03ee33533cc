# Two commands for a fresh clone: `make demo` and `make test`. The rest stands beside them.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: venv demo test lint bench

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,fast,tiff,dicom,log,dev]'
	touch $@

demo: venv
	$(BIN)/python examples/demo.py

test: venv
	$(BIN)/python tests/browser.py
	$(BIN)/python -m pytest

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check src tests examples benchmarks
	$(BIN)/mypy

bench: venv
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

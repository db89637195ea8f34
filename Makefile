# What a newcomer needs: `make demo`, `make test` and `make docs`. Each makes the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CODE := src tests benchmarks tools docs/hooks conftest.py
DOCS_STAMP := $(VENV)/.installed-docs

.PHONY: demo test lint docs clean

$(STAMP): pyproject.toml benchmarks/pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]" --editable ./benchmarks
	touch $(STAMP)

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $(DOCS_STAMP)

# A whole-brain subject with known truth, the whole job on it, and the report beside the truth.
demo: $(STAMP)
	$(BIN)/fornix simulate -o demo/scan --protocol demo --snr 30
	$(BIN)/fornix run demo/scan/sub-phantom_dwi.nii.gz -o demo/out --truth demo/scan/truth

lint: $(STAMP)
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two processes with one thread each; real scans are read from ../shared/data or FORNIX_TEST_DATA.
test: lint $(DOCS_STAMP)
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2 --dist worksteal --durations=15

# The site, into site/: open site/index.html. Needs no network once the environment is there.
docs: $(DOCS_STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clean:
	rm -rf demo site build dist .pytest_cache .mypy_cache .ruff_cache

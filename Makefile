# Every target makes the virtual environment that it needs; python3, make and git are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH := $(shell grep '^torch==' constraints.txt)
OUT ?= out/demo
STUDIES_OUT ?= results
BENCH ?=

.PHONY: demo studies studies-quick test test-slow lint bench clean help

help:  ## Print the targets.
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/:/'

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.developed: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,ray]"
	touch $@

demo: $(VENV)/.installed  ## Beamformers over a real city: writes out/demo/index.html.
	$(BIN)/holobeam demo --out $(OUT)

studies-quick: $(VENV)/.installed  ## Every study with few channels, its report, and what we expect of it.
	$(BIN)/holobeam run studies --quick --out $(STUDIES_OUT)/quick
	$(BIN)/holobeam report $(STUDIES_OUT)/quick --assert

studies: $(VENV)/.installed  ## Every study at publication size: about 47 core-hours (docs/studies.md).
	$(BIN)/holobeam run studies --out $(STUDIES_OUT)/full
	$(BIN)/holobeam report $(STUDIES_OUT)/full

test: $(VENV)/.developed  ## Fast tests.
	$(BIN)/python -m pytest -n 3 --dist worksteal

test-slow: $(VENV)/.developed  ## Tests that take minutes.
	$(BIN)/python -m pytest -n 3 --dist worksteal -m slow

lint: $(VENV)/.developed  ## Style, types and the direction of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.developed  ## What the project must show, measured on this machine (BENCH=--full: hours).
	$(BIN)/python -m benchmarks $(BENCH)

clean:  ## Remove what the other targets made.
	rm -rf $(VENV) out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

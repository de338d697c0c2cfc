# Each target makes or reuses .venv by itself: `git clone` and `make tour` is all. Not for clinical use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# development: the data beside a checkout serve as the first mirror
ifeq ($(origin RADWB_MIRROR),undefined)
ifneq ($(wildcard ../shared/data),)
export RADWB_MIRROR := $(abspath ../shared/data)
endif
endif

.PHONY: help tour tour-all lab test test-full bench clean
help:
	@echo "make tour       run the core notebooks, write build/gallery/index.html"
	@echo "make tour-all   run every notebook, the further ones too: about an hour and a half"
	@echo "make lab        open JupyterLab at notebook 00"
	@echo "make test       run the tests (make test-full: the slow ones too)"
	@echo "make bench      measure against other libraries, write build/bench.json"
	@echo "make clean      remove build/ and .venv/ (never runs/)"
	@echo "PYTHON=python3.12 picks another interpreter; this one is $(PYTHON)"

tour: $(VENV)/.installed
	$(BIN)/radwb tour

# the published models' files need the extras that the tests install
tour-all: $(VENV)/.installed-test
	$(BIN)/radwb book run

lab: $(VENV)/.installed
	$(BIN)/radwb lab

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

test-full: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "slow or not slow"

bench: $(VENV)/.installed-test
	$(BIN)/python benchmarks/bench.py

clean:
	rm -rf build $(VENV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "expected Python 3.11, 3.12 or 3.13, got $$($(PYTHON) --version 2>&1). Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) can't make an environment. Try: apt install python3-venv (Debian, Ubuntu)"; exit 1; }

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -q -e ".[curate,fail]"
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -q -e ".[test]"
	@touch $(VENV)/.installed $@

# make run | test | bench | lint      (PYTHON=python3.12 chooses the interpreter)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin/python
# Named after the interpreter, so that another PYTHON makes the environment anew.
MADE := $(VENV)/made-with-$(notdir $(PYTHON))
EXTRAS := experiments test dev

.NOTPARALLEL:
.PHONY: run test bench lint

run: $(VENV)/has-experiments
	$(BIN) -m experiments.main --config=configs/upsampling.py --workdir=runs/upsampling

test: $(VENV)/has-test
	$(BIN) -m pytest

bench: $(VENV)/has-experiments
	$(BIN) -m experiments.benchmark --config=configs/benchmark.py

lint: $(VENV)/has-dev
	$(BIN) -m ruff check .
	$(BIN) -m pyrefly check --python-interpreter-path $(BIN)

$(EXTRAS:%=$(VENV)/has-%): $(VENV)/has-%: $(MADE) setup.py
	$(BIN) -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tconv needs Python 3.11 or newer; name one with PYTHON=")'
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

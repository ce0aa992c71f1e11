# make run | test | test-docs | bench | codegen | docs | docs-serve | lint      (PYTHON=python3.12 chooses the interpreter)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin/python
# Named after the interpreter, so that another PYTHON makes the environment anew.
MADE := $(VENV)/made-with-$(notdir $(PYTHON))
EXTRAS := experiments test docs dev
# The compilers for GPUs and TPUs, and jax of the version that $(VENV) has.
COMPILERS := .venv-codegen
COMPILE := $(COMPILERS)/bin/python

.NOTPARALLEL:
.PHONY: run test test-compiled test-docs bench codegen docs docs-serve lint

run: $(VENV)/has-experiments
	$(BIN) -m experiments.main --config=configs/upsampling.py --workdir=runs/upsampling

test: $(VENV)/has-test
	$(BIN) -m pytest --ignore=tests/docs
	@if test -e $(COMPILERS)/made; then $(MAKE) test-compiled; fi

test-compiled: $(COMPILERS)/made
	$(COMPILE) -m pytest -o addopts= tests/compiled/on_h100.py
	$(COMPILE) -m pytest -o addopts= tests/compiled/on_v5e.py

bench: $(VENV)/has-experiments
	$(BIN) -m experiments.benchmark --config=configs/benchmark.py

codegen: $(COMPILERS)/made
	$(COMPILE) -m experiments.codegen --target=h100

# The site is a folder of files: open docs/_build/html/index.html.
docs: $(VENV)/has-docs
	$(BIN) -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo 'Open docs/_build/html/index.html'

test-docs: docs $(VENV)/has-test
	$(BIN) -m pytest tests/docs

docs-serve: docs
	$(BIN) -m http.server --bind 127.0.0.1 --directory docs/_build/html 8000

lint: $(VENV)/has-dev
	$(BIN) -m ruff check .
	$(BIN) -m pyrefly check --python-interpreter-path $(BIN)

$(EXTRAS:%=$(VENV)/has-%): $(VENV)/has-%: $(MADE) setup.py
	$(BIN) -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

# Nothing else of NVIDIA's is needed. From jax 0.11 on, those of CUDA 13.
$(COMPILERS)/made: $(VENV)/has-experiments
	$(BIN) -m venv --clear $(COMPILERS)
	@set -e; \
	jax=$$($(BIN) -c 'import jax; print(jax.__version__)'); \
	cuda=$$($(BIN) -c 'import jax; print(13 if jax.__version_info__ >= (0, 11) else 12)'); \
	$(COMPILE) -m pip install --quiet --disable-pip-version-check \
	  --editable '.[codegen]' "jax[tpu]==$$jax" \
	  "jax-cuda$$cuda-plugin==$$jax" "jax-cuda$$cuda-pjrt==$$jax"
	@touch $@

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tconv needs Python 3.11 or newer; name one with PYTHON=")'
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

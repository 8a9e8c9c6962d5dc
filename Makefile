# Two commands that work on a fresh machine with Python 3.11 or newer and pip: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --constraint constraints.txt
STAMP := $(VENV)/installed
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: setup demo test lint clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "Instep needs Python 3.11 or newer, this is %d.%d; try make PYTHON=python3.12" % v[:2])'
	@echo "installing into $(VENV) (once; PyTorch is about 200 MB) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) setuptools
	@$(PIP) --no-build-isolation --editable ".[torch,jax,keras,npu,dev]"
	@# timm asks for torchvision, whose compiled operators do not fit every CPU build, and Keras 2 (which the tests make
	@# files with) for TensorFlow's other build: all without dependencies.
	@$(PIP) --no-deps timm torchvision tf_keras
	@touch $@

demo: $(STAMP)
	@$(BIN)/python examples/demo.py

test: $(STAMP)
	@$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/lint-imports --no-cache

bench-%: $(STAMP)
	@$(BIN)/python -m benchmarks.$*

clean:
	rm -rf $(VENV) build dist demo-out .pytest_cache .ruff_cache .hypothesis

# Two commands: `make demo` sets everything up and fuses four small models into one;
# `make test` sets everything up and runs the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(4, len(os.sched_getaffinity(0))))')

.PHONY: demo demo-endpoint test test-slow lint lock clean

demo: $(READY)
	$(BIN)/fusechat run recipes/mini.yaml

# The same fusion with two of its four sources behind servers.
demo-endpoint: $(READY)
	$(BIN)/python -m fusechat.serving gemma=zoo/gemma@8101 qwen=zoo/qwen@8102 --dtype float32 -- \
		$(BIN)/fusechat run recipes/mini-endpoint.yaml

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("fusechat needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)

# Renews requirements.lock from pyproject.toml. torch is taken first and by its exact version, so
# that pip does not fetch another build of it.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet torch==2.13.0
	build/lock/bin/python -m pip install --quiet hatchling editables -e '.[dev]'
	build/lock/bin/python -m pip freeze --exclude-editable | sed 's/^torch==.*/torch==2.13.0/' > requirements.lock

clean:
	rm -rf $(VENV) build

# What a person needs: Python 3.11 or later and make. Everything else lands in .venv inside this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Extra words for the program or the test runner: make run ARGS="--source rtsp://...", make test ARGS="-k window".
ARGS ?=

.PHONY: run test prove style types bench setup clean

run: setup
	$(BIN)/streamer demo $(ARGS)

# In two processes: the tests that start whole services wait most of the time (tests/conftest.py says what runs where);
# then those that need the machine for themselves. pytest's 5: ARGS chose none of them.
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadscope -m "not alone" $(ARGS) || [ $$? -eq 5 ]
	$(BIN)/python -m pytest -m alone $(ARGS) || [ $$? -eq 5 ]

prove: setup
	STREAMER_PROVE=1 $(BIN)/python -m pytest $(ARGS)

style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

bench: setup
	$(BIN)/streamer bench density $(ARGS)

setup: $(VENV)/.ready

# Rebuilt when the dependencies change; otherwise a no-op, so that every other target may depend on it.
$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "streamer needs Python 3.11 or later, and $(PYTHON) is $$($(PYTHON) -V 2>&1): name another with make PYTHON=..." >&2; exit 2; }
	@echo "Setting up $(VENV) (once; about 5 GB, most of it torch)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) build dist

# Everything runs in an environment of its own, made on first use in .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Each worker has one thread: with more, workers on the same cores wait for one another.
WORKERS ?= 2
# Another salt gives every test other random numbers: make test SALT=3.
SALT ?=
PYTEST := OMP_NUM_THREADS=1 SALT=$(SALT) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: demo test test-slow check format docs wheel clean

demo: $(READY)
	$(BIN)/tweedie-inverse demo

test: $(READY)
	$(PYTEST)

test-slow: $(READY)
	$(PYTEST) -m "slow and not gpu"

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, in docs/_build/html: warnings are errors, and so are links that lead nowhere.
docs: $(READY)
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/_build/html

wheel: $(READY)
	$(BIN)/python -m build --wheel

clean:
	rm -rf .venv build dist demo-output docs/_build

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

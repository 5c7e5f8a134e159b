# Two commands are all that a new user needs: `make simulate` and `make test`. Each sets up what it needs in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SCENARIO ?= scenarios/medmnist.yaml

.PHONY: simulate test unit engines lint smoke benchmarks picture papers clean

simulate: $(VENV)/installed
	$(BIN)/fedsplit simulate $(SCENARIO)

test: unit engines

# One torch thread per test process: the tests are many and small.
unit: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

engines: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m engine

lint: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

smoke: $(VENV)/installed
	set -e; for scenario in $$(find scenarios -maxdepth 1 -name '*.yaml' | sort); do \
		$(BIN)/fedsplit simulate $$scenario --smoke --out $$(mktemp -d)/run; \
	done

benchmarks: $(VENV)/installed
	set -e; for script in benchmarks/*.py; do $(BIN)/python $$script; done

picture: $(VENV)/installed
	$(BIN)/python docs/refresh.py

# Hours; the same command goes on after an interrupt.
papers: $(VENV)/installed
	$(BIN)/python docs/papers.py --page docs/results.md

clean:
	rm -rf $(VENV) runs build

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[flower,development]'
	touch $@

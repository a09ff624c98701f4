# Every target below sets up what it needs: a virtual environment in .venv, with Python 3.11, 3.12 or 3.13.
# Repeats are fast: stamp files in .venv remember what is installed. `make PYTHON=/path/to/python3.12 test` picks one.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check format bench schemas bands scoreboard reproduce wheel clean distclean

SUPPORTED := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  "$$p" -c '$(SUPPORTED)' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
USER_STAMP := $(VENV)/.installed-user
DEV_STAMP := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SCENARIO ?= scenarios/llama3-70b-azure-conv.yaml
PROCESSES ?= 2

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(USER_STAMP) ## Install, run the main job on a shipped scenario and say where the report is
	$(BIN)/plansim search $(SCENARIO) --out out/demo --report
	@echo "The report is $(CURDIR)/out/demo/report.html (open it in a browser)."

test: check ## Install for development and run everything: format, lint, types, import rule, tests, notebooks
	$(BIN)/python -m pytest tests -n $(PROCESSES)
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=600 -o filterwarnings=default notebooks

check: $(DEV_STAMP) ## The fast part of `test`: format, lint, types, import rule
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP) ## Format the code, fix what the linter can, strip notebook outputs
	$(BIN)/ruff check --fix-only --exit-zero .
	$(BIN)/ruff format .
	$(BIN)/nbstripout notebooks/*.ipynb

bench: $(DEV_STAMP) ## Measure start-up, events, requests and plans per second
	$(BIN)/python -m pytest benchmarks --benchmark-only

schemas: $(DEV_STAMP) ## Write schemas/ again after a change of the scenario's fields
	$(BIN)/plansim schema scenario --out schemas
	$(BIN)/plansim schema claims --out schemas

bands: $(DEV_STAMP) ## Fit the error bands of the engine profiles again (PLANSIM_DATA names the measurements)
	$(BIN)/plansim validate --dataset serving_points --bands hardware_profiles/engines

scoreboard: $(DEV_STAMP) ## Write docs/scoreboard.md and .json again; half an hour of one core (PLANSIM_DATA names the measurements)
	$(BIN)/plansim validate --cross-validate model --cross-validate system --costs measured --out out/scoreboard
	cp out/scoreboard/scoreboard.md out/scoreboard/scoreboard.json docs/

reproduce: $(DEV_STAMP) ## Write docs/reproduce.md again: published claims, simulated and judged
	$(BIN)/plansim reproduce --quiet --out out/reproduce
	cp out/reproduce/reproduce.md docs/

wheel: $(DEV_STAMP) ## Build the distribution into dist/
	$(BIN)/python -m build --outdir dist

clean: ## Remove results and caches
	rm -rf out dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks .import_linter_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## Remove also the virtual environment
	rm -rf $(VENV)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 with its venv module is needed" \
	  "(Debian: apt install python3 python3-venv)." >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)

$(USER_STAMP): pyproject.toml | $(BIN)/python
	@echo "Installing plansim into $(VENV); the first time takes a minute or two."
	$(PIP) install --editable .
	@touch $@

$(DEV_STAMP): pyproject.toml | $(BIN)/python
	@echo "Installing plansim and its development tools into $(VENV); the first time takes a few minutes."
	$(PIP) install --editable '.[dev]'
	@touch $(USER_STAMP) $@

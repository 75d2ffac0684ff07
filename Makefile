# make demo · make test · make check
#
# make demo DATA=folder LABELS=pore,crack WEIGHTS=none|imagenet|file.safetensors MINUTES=2 PORT=8080 ONCE=1
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STUDIO_VENV := .venv-label-studio
LABEL_STUDIO_VERSION := 1.23.2

DEMO_OPTIONS = $(if $(DATA),--data "$(DATA)") $(if $(LABELS),--labels "$(LABELS)") \
	$(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(MINUTES),--minutes $(MINUTES)) \
	$(if $(PORT),--port $(PORT)) $(if $(filter-out 0,$(ONCE)),--once)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-fast check install install-label-studio

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

install: $(VENV)/.installed ## SRPU and its tools, into .venv

install-label-studio: $(STUDIO_VENV)/.installed ## Label Studio, into an environment of its own

$(VENV)/.installed: requirements.txt requirements-dev.txt
	@echo "Installing SRPU into $(VENV): about 2 GB, a few minutes, once."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q -r requirements-dev.txt
	@touch $@

$(STUDIO_VENV)/.installed: Makefile
	@echo "Installing Label Studio $(LABEL_STUDIO_VERSION) into $(STUDIO_VENV): about 1 GB, a minute, once."
	@$(PYTHON) -m venv $(STUDIO_VENV)
	@$(STUDIO_VENV)/bin/pip install -q label-studio==$(LABEL_STUDIO_VERSION)
	@touch $@

demo: install install-label-studio ## Label Studio, backend and trainer; DATA=folder takes your own images
	@$(BIN)/python -m examples.demo $(DEMO_OPTIONS)

check: install ## ruff and mypy
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: install install-label-studio ## everything, against a real Label Studio
	$(BIN)/pytest

test-fast: install ## under two minutes
	$(BIN)/pytest -m fast

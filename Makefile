# Set-up and the main jobs; each target does all that it needs. The logic is in scripts/.
#
#   VENV=.venv                         the virtual environment
#   ALIGN_EXTRA=cpu|gpu                which lock file (by default gpu where nvidia-smi answers)
#   ALIGN_SANDBOX_ENGINE=namespaces    use no Docker engine
#   ALIGN_INSTALL_ENGINE=1             install a Docker engine where none answers (Debian/Ubuntu, root)
#   ALIGN_MODELS, ALIGN_DATA           folders with copies of models and data
#   SEEDS="1 2 3"                      of `make result`
#   RUN_ARGS, PYTEST_ARGS              more arguments of `align run` and pytest

VENV ?= .venv
export VENV
WITH := scripts/with-engine.sh scripts/setup.sh

.PHONY: help setup demo result test lint clean

help:
	@echo "make setup | demo | result | test | lint | clean (the first lines of the Makefile say more)"

setup:
	@$(WITH)

demo:
	@$(WITH) $(VENV)/bin/align run recipes/demo.yaml $(RUN_ARGS)

# Hours: the table of docs/results.md.
result:
	@$(WITH) scripts/result.sh $(RUN_ARGS)

test:
	@$(WITH) scripts/test.sh $(PYTEST_ARGS)

lint:
	@scripts/venv.sh
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Keeps runs/ and the models in the user's cache.
clean:
	@if [ -e .state/engine/pid ]; then scripts/install-engine.sh stop .state/engine; fi
	rm -rf $(VENV) .state build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

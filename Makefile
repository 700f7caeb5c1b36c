# Needs python3 (3.11 to 3.13), make and git. Everything else goes into .venv and, a few MB, .venv-colab
# and .venv-lowest.
#
#   make setup    make .venv and install what notebooks and tests need (quick when nothing changed);
#                 beside it .venv-colab, with Google Colab's old widgets, for the tests alone
#   make lab      make .venv if need be, then open the first notebook in JupyterLab
#   make test     make setup, then run all tests, 25 minutes on two cores
#   make test-fast
#                 make .venv if need be, then run the tests that need no browser, execute no notebook and
#                 are not marked slow
#   make coverage all tests but those of the browser and the notebooks, and which share of the packages' lines
#                 they execute
#   make docs     install what builds the documentation into .venv, and build it into site/, with the notebooks
#                 executed: about five minutes, and half a minute when no notebook has changed since.
#                 Executed pages are kept in .cache/; remove it when other code has changed
#   make lint     make .venv if need be, then ruff and mypy
#   make test-lowest
#                 make .venv-lowest, with the oldest versions that pyproject.toml allows beside the torch
#                 of .venv, and run a short list of tests there
#
# Variables:
#   PYTHON        the Python that .venv is made with                make setup PYTHON=python3.12
#   TORCH_INDEX   where to take torch from. On Linux the usual build is for NVIDIA cards and
#                 several GB large; the CPU build is enough for the notebooks and the tests:
#                     make lab TORCH_INDEX=https://download.pytorch.org/whl/cpu
#                 Read when .venv is installed, so give it the first time.
#   JUPYTER_ARGS  passed on to JupyterLab                           make lab JUPYTER_ARGS=--no-browser
#   EXECUTE_NOTEBOOKS  false: build the documentation without the notebooks' results, in half a minute
#                                                                   make docs EXECUTE_NOTEBOOKS=false
#   WORKERS       processes that run tests, 0 for pytest's own      make test WORKERS=0 PYTEST_ARGS=--pdb
#   PYTEST_ARGS   passed on to pytest                               make test PYTEST_ARGS="-x tests/sampling/test_ddim.py"

PYTHON       ?= python3
TORCH_INDEX  ?=
JUPYTER_ARGS ?=
WORKERS      ?= 2
PYTEST_ARGS  ?=
EXECUTE_NOTEBOOKS ?= true

VENV  := .venv
COLAB := .venv-colab
LOWEST := .venv-lowest
IN    := $(VENV)/bin/python -m
# Without stored bytecode every run would spend ten seconds more on reading the tests.
unexport PYTHONDONTWRITEBYTECODE
# A thread for each process: two processes with torch's own threads would wait for each other.
PYTEST = $(if $(filter-out 0 1,$(WORKERS)),OMP_NUM_THREADS=1 )$(IN) pytest -n $(WORKERS)
FAST  := -m "not browser and not notebook and not slow"
COVERING := -m "not browser and not notebook"
LOWEST_TESTS := \
    tests/test_packaging.py::test_the_lowest_versions_are_installed \
    tests/test_determinism.py \
    tests/models/test_model_folder.py::test_what_old_folders_name_and_nobody_reads \
    tests/models/test_model_folder.py::test_weights_under_names_that_nobody_knows \
    tests/models/test_loading.py::test_a_single_file_is_the_pipeline_it_was_made_of \
    tests/models/test_loading.py::test_a_saved_folder_of_each_family \
    tests/models/test_memory.py::test_every_option_edits_a_picture \
    tests/models/test_noise_models.py::test_schedulers_of_ddpms_kind \
    tests/lora/test_lora_on_toyland.py
TORCH := $(shell sed -n 's/^\(torch==[^ ;]*\).*/\1/p' constraints.txt)

define NOT_INSTALLED
{ echo; \
  echo "The installation into $(VENV) did not finish; pip's own lines above say why. Nothing is lost: run make again."; \
  echo "  - No network, or a proxy: pip must reach a package index; for one of your own set PIP_INDEX_URL."; \
  echo "  - No space: it needs 2 GB with the CPU build of torch, several GB more with the usual one on Linux;"; \
  echo "    free here: $$(df -Pk . | awk 'NR == 2 { printf "%.1f GB", $$4 / 1e6 }'). The CPU build: make ... TORCH_INDEX=https://download.pytorch.org/whl/cpu"; \
  echo "  - No fitting version: this Python may be too new or too old for torch; give another one with PYTHON=python3.12"; \
  echo "    and remove $(VENV) first."; \
  exit 1; }
endef

# Put the packages of .venv behind those of another environment.
define BEHIND
set -e; packages='import sysconfig; print(sysconfig.get_path("purelib"))'; \
    own=$$($(1)/bin/python -c "$$packages"); others=$$($(VENV)/bin/python -c "$$packages"); \
    echo "import site; site.addsitedir('$$others')" > "$$own/others.pth"
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup lab test test-fast coverage test-lowest docs lint

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

setup: $(VENV)/.installed $(COLAB)/.installed

$(VENV)/bin/pip:
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) here. Install Python 3.11 to 3.13 (Debian and Ubuntu:" \
	    "apt install python3 python3-venv; macOS: brew install python@3.12), or name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else \
	    "dragnoise needs Python 3.11 to 3.13, this is %d.%d: give another one with PYTHON=python3.12" % v)'
	@echo "Making $(VENV) and installing into it: some minutes, once. 2 GB with the CPU build of torch."
	@$(PYTHON) -m venv $(VENV) || { echo; echo "$(PYTHON) could not make an environment in $(VENV). Debian and Ubuntu keep" \
	    "that in a package of its own: apt install python3-venv; otherwise see whether the disk is full (df -h .)."; exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@$(if $(TORCH_INDEX),$(IN) pip install $(TORCH) --index-url $(TORCH_INDEX) || $(NOT_INSTALLED))
	@$(IN) pip install -c constraints.txt -e '.[widgets,lab,dev]' || $(NOT_INSTALLED)
	@touch $@

# Its own packages come first, then those of .venv, so that torch is there once.
$(COLAB)/.installed: constraints-colab.txt $(VENV)/.installed
	@echo "Making $(COLAB) for the tests with Google Colab's old widgets: half a minute, once, a few MB."
	@$(IN) venv --clear $(COLAB)
	@$(COLAB)/bin/python -m pip install --quiet --no-deps -r constraints-colab.txt || $(NOT_INSTALLED)
	@$(call BEHIND,$(COLAB))
	@touch $@

lab: $(VENV)/.installed
	@echo "JupyterLab opens in the browser. Where there is none, open the address with '?token=' that it prints; if port 8888"
	@echo "is taken it uses the next free one, or give one: make lab JUPYTER_ARGS=--port=9000. Ctrl-C twice ends it."
	$(IN) jupyterlab notebooks/01_first_drag.ipynb $(JUPYTER_ARGS)

test: setup
	@echo "All tests: 25 minutes on two cores, half an hour on slow ones. 'make test-fast' takes two minutes."
	$(PYTEST) $(PYTEST_ARGS)

test-fast: $(VENV)/.installed
	$(PYTEST) $(FAST) $(PYTEST_ARGS)

coverage: $(VENV)/.installed
	$(PYTEST) $(COVERING) --cov=dragnoise --cov=dragnoise_widgets --cov-report=term:skip-covered $(PYTEST_ARGS)

# Here too the packages of .venv come last: torch, and whatever the oldest versions accept of the rest.
$(LOWEST)/.installed: pyproject.toml .ci/lowest.py $(VENV)/.installed
	@echo "Making $(LOWEST) with the oldest versions that are allowed: a minute, once."
	@$(IN) venv --clear $(LOWEST)
	@$(call BEHIND,$(LOWEST))
	@$(VENV)/bin/python .ci/lowest.py > $(LOWEST)/floors.txt
	@$(LOWEST)/bin/python -m pip install --quiet -r $(LOWEST)/floors.txt || $(NOT_INSTALLED)
	@touch $@

test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -q $(LOWEST_TESTS) $(PYTEST_ARGS)

$(VENV)/.docs: $(VENV)/.installed
	@$(IN) pip install -c constraints.txt -e '.[docs]' || $(NOT_INSTALLED)
	@touch $@

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 EXECUTE_NOTEBOOKS=$(EXECUTE_NOTEBOOKS) $(IN) mkdocs build --quiet
	@echo "The documentation is in site/index.html; '$(IN) http.server -d site' shows it on http://localhost:8000."

lint: $(VENV)/.installed
	$(IN) ruff check .
	$(IN) ruff format --check .
	$(IN) mypy

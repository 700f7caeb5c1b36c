# Needs python3 (3.10 to 3.13), make and git. Everything else goes into .venv and, a few MB, .venv-colab.
#
#   make setup    make .venv and install what notebooks and tests need (quick when nothing changed);
#                 beside it .venv-colab, with Google Colab's old widgets, for the tests alone
#   make lab      make .venv if need be, then open the first notebook in JupyterLab
#   make test     make setup, then run the tests
#   make lint     make .venv if need be, then ruff and mypy
#
# Variables:
#   PYTHON        the Python that .venv is made with                make setup PYTHON=python3.12
#   TORCH_INDEX   where to take torch from. On Linux the usual build is for NVIDIA cards and
#                 several GB large; the CPU build is enough for the notebooks and the tests:
#                     make lab TORCH_INDEX=https://download.pytorch.org/whl/cpu
#                 Read when .venv is installed, so give it the first time.
#   JUPYTER_ARGS  passed on to JupyterLab                           make lab JUPYTER_ARGS=--no-browser
#   PYTEST_ARGS   passed on to pytest                               make test PYTEST_ARGS="-x tests/test_ddim.py"

PYTHON       ?= python3
TORCH_INDEX  ?=
JUPYTER_ARGS ?=
PYTEST_ARGS  ?=

VENV  := .venv
COLAB := .venv-colab
IN    := $(VENV)/bin/python -m
TORCH := $(shell sed -n 's/^\(torch==[^ ;]*\).*/\1/p' constraints.txt)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup lab test lint

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

setup: $(VENV)/.installed $(COLAB)/.installed

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else \
	    "dragnoise needs Python 3.10 to 3.13, this is %d.%d: give another one with PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(if $(TORCH_INDEX),$(IN) pip install $(TORCH) --index-url $(TORCH_INDEX))
	$(IN) pip install -c constraints.txt -e '.[widgets,lab,dev]'
	@touch $@

# Its own packages come first, then those of .venv, so that torch is there once.
$(COLAB)/.installed: constraints-colab.txt $(VENV)/.installed
	$(IN) venv --clear $(COLAB)
	$(COLAB)/bin/python -m pip install --no-deps -r constraints-colab.txt
	set -e; packages='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	    own=$$($(COLAB)/bin/python -c "$$packages"); others=$$($(VENV)/bin/python -c "$$packages"); \
	    echo "import site; site.addsitedir('$$others')" > "$$own/others.pth"
	@touch $@

lab: $(VENV)/.installed
	$(IN) jupyterlab notebooks/01_first_drag.ipynb $(JUPYTER_ARGS)

test: setup
	$(IN) pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed
	$(IN) ruff check .
	$(IN) ruff format --check .
	$(IN) mypy

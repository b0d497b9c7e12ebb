# Two commands for a fresh machine: `make demo` and `make test`. Both make their own .venv. As a service: `make install`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo venv pictures test test-fast test-networks test-parts test-flow test-daemons fast-networks fast-daemon fast-client fast-rest chaos lint audit clean

demo: $(VENV)/.installed  ## The main job on frames it makes itself; results stay in demo-output/.
	$(BIN)/inspector demo --keep demo-output

venv: $(VENV)/.installed  ## Installs the program into .venv, and no more.

pictures: demo $(VENV)/.installed-dev  ## The docs' pictures: of the demo, from what it leaves, and of the dashboards.
	INSPECTOR_CHAOS=1 INSPECTOR_PANELS=build/panels $(BIN)/python -m pytest tests/system/test_prometheus.py
	$(BIN)/python docs/make_pictures.py demo-output build/panels docs/images

NETWORKS := tests/training tests/system/test_training.py
DAEMONS := $(filter-out tests/system/test_training.py,$(wildcard tests/system/test_*.py))
SLOW := tests/training tests/engine tests/model tests/benchmarks tests/system tests/recipe/test_conversion.py tests/cli/test_encoder.py \
	tests/sources/cameras tests/sources/test_opencv.py tests/sources/test_rtsp.py tests/test_install.py tests/test_pictures.py
FAST_NETWORKS := tests/cli tests/detection
FAST_DAEMON := tests/service
FAST_CLIENT := tests/client
PYTEST := OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest
# Daemons wait much of their time, and are timed: they go first, the others take what is left. Memory that is given back
# and taken again at once is an eighth of what training takes.
BESIDE := MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=1073741824
BESIDE += OMP_WAIT_POLICY=PASSIVE nice -n 10 $(BIN)/python -m pytest
FLOW := tests/service tests/client tests/sources
SIDE_BY_SIDE := $(MAKE) --no-print-directory --keep-going --jobs 4 --output-sync=target

test: $(VENV)/.installed-dev  ## All tests, the comparison with the peer included.
	$(SIDE_BY_SIDE) test-daemons test-parts test-flow test-networks

test-fast: $(VENV)/.installed-dev  ## What needs neither a whole process nor minutes: for between two edits.
	$(SIDE_BY_SIDE) fast-daemon fast-rest fast-networks fast-client

test-daemons:
	$(PYTEST) $(DAEMONS)

test-networks:
	$(BESIDE) $(NETWORKS)

test-parts:
	$(BESIDE) $(NETWORKS:%=--ignore %) $(DAEMONS:%=--ignore %) $(FLOW:%=--ignore %)

test-flow:
	$(BESIDE) $(FLOW)

fast-networks:
	$(PYTEST) -m "not engine" $(FAST_NETWORKS) $(SLOW:%=--ignore %)

fast-daemon:
	$(PYTEST) -m "not engine" $(FAST_DAEMON)

fast-client:
	$(PYTEST) -m "not engine" $(FAST_CLIENT)

fast-rest:
	$(PYTEST) -m "not engine" $(FAST_NETWORKS:%=--ignore %) $(FAST_DAEMON:%=--ignore %) $(FAST_CLIENT:%=--ignore %) $(SLOW:%=--ignore %)

chaos: $(VENV)/.installed-dev  ## The long form: kills, overload, histories, spoilt pictures; what they counted is printed.
	-$(BIN)/pip install --quiet --editable '.[fuzz]'
	INSPECTOR_CHAOS=1 $(BIN)/python -m pytest -s tests/system tests/client/test_histories.py tests/codec/test_fuzz.py \
		tests/sources/test_rtsp.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml inspector

audit: $(VENV)/.installed  ## Known vulnerabilities of what is installed, from a public database.
	$(BIN)/pip install --quiet pip-audit
	$(BIN)/pip-audit --local --skip-editable --progress-spinner off

clean:
	rm -rf $(VENV) build demo-output

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[dev,bench,int8,parquet]'
	touch $@ $(VENV)/.installed

include systemd/install.mk

# Two commands for a fresh machine: `make demo` and `make test`. Both make their own .venv. As a service: `make install`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo venv pictures test test-fast chaos lint audit clean

demo: $(VENV)/.installed  ## The main job on frames it makes itself; results stay in demo-output/.
	$(BIN)/inspector demo --keep demo-output

venv: $(VENV)/.installed  ## Installs the program into .venv, and no more.

pictures: demo $(VENV)/.installed-dev  ## The docs' pictures: of the demo, from what it leaves, and of the dashboards.
	INSPECTOR_CHAOS=1 INSPECTOR_PANELS=build/panels $(BIN)/python -m pytest tests/system/test_prometheus.py
	$(BIN)/python docs/make_pictures.py demo-output build/panels docs/images

# A worker holds up to 5 GB; OpenMP's threads must not spin while others work. A file stays with one, for its fixtures.
WORKERS ?= $(shell nproc | awk '{ print $$1 < 4 ? $$1 : 4 }')
PYTEST := OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
TESTS := $(sort $(shell find tests -name 'test_*.py'))
DAEMONS := $(filter-out tests/system/test_training.py,$(filter tests/system/%,$(TESTS)))
LONGEST := tests/training/optimise/test_course.py tests/system/test_training.py tests/training/test_train.py
SLOW := $(filter tests/training/% tests/engine/% tests/benchmarks/% tests/system/%,$(TESTS)) \
	tests/recipe/test_conversion.py tests/cli/test_encoder.py tests/test_install.py

test: $(VENV)/.installed-dev  ## All tests, the comparison with the peer included; whole daemons, which are timed, by themselves.
	$(PYTEST) $(LONGEST) $(filter-out $(LONGEST) $(DAEMONS),$(TESTS))
	$(BIN)/python -m pytest $(DAEMONS)

test-fast: $(VENV)/.installed-dev  ## What needs neither a whole process nor minutes: for between two edits.
	$(PYTEST) -m "not engine" $(filter-out $(SLOW),$(TESTS))

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

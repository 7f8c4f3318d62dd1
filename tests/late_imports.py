"""Imports of a file of tests that wait for its first test: every worker imports every file, and runs few.

What a file imports under `if TYPE_CHECKING:`, for checkers of types, is imported for its tests by

    late = late_imports(globals())
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def late_imports(namespace: dict[str, Any]) -> Callable[[], None]:
    """A fixture of the file whose namespace this is."""

    @pytest.fixture(scope="module", autouse=True)
    def late() -> None:
        file = namespace["__file__"]
        for node in ast.parse(Path(file).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                exec(compile(ast.Module(node.body, []), file, "exec"), namespace)

    return late

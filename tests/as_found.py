"""The environment as the tests found it, for processes whose threads, memory or time are judged.

conftest.py keeps NumPy to one thread, so that tests beside each other are quick.
"""

from __future__ import annotations

import os


def as_found() -> dict[str, str]:
    """The variables, without that."""
    return {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}

"""An adapter whose framework is not installed says which package to install, and others still work."""

from __future__ import annotations

import subprocess
import sys

import pytest

FRAMEWORKS = {
    "haystack": ("haystack", "haystack-ai"),
    "langchain": ("langchain_core", "langchain-core"),
    "llama_index": ("llama_index", "llama-index-core"),
    "mteb": ("mteb", "mteb"),
    "rerankers": ("rerankers", "rerankers"),
}


@pytest.mark.parametrize("adapter", FRAMEWORKS)
def test_it_names_the_package(adapter):
    module, package = FRAMEWORKS[adapter]
    code = f"""
import sys
sys.modules[{module!r}] = None  # what Python keeps for a module that is not there
import latebolt.adapters.sentence_transformers
from latebolt.errors import RuntimeUnavailable
try:
    import latebolt.adapters.{adapter}
except RuntimeUnavailable as error:
    assert isinstance(error, ImportError)
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f'{package} is not installed. Run "pip install {package}".'

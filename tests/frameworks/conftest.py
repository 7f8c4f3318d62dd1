"""The Stanford library's four extensions are compiled as one, with the few headers of torch's that they need.

With all headers each takes half a minute, once an environment; sources and calls stay the library's own.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# For processes that are started, too. On a busy machine threads of OpenMP wait for each other by spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")
HEADERS = Path(__file__).parent / "headers"
os.environ["CPATH"] = os.pathsep.join(filter(None, [str(HEADERS), os.environ.get("CPATH")]))

SOURCES = {
    "segmented_maxsim_cpp": "modeling/segmented_maxsim.cpp",
    "segmented_lookup_cpp": "search/segmented_lookup.cpp",
    "filter_pids_cpp": "search/filter_pids.cpp",
    "decompress_residuals_cpp": "search/decompress_residuals.cpp",
}
TOGETHER = Path(__file__).parents[2] / "build" / "colbert_extensions.cpp"


def together(root: Path) -> str:
    """C++ that includes every source in a namespace of its own, headers before all."""
    texts = [(root / source).read_text() for source in SOURCES.values()]
    headers = sorted({line for text in texts for line in re.findall(r"^#include <.*>", text, re.MULTILINE)})
    parts = [
        f"#undef TORCH_EXTENSION_NAME\n#define TORCH_EXTENSION_NAME {name}\n"
        f'namespace of_{name} {{\n#include "{root / source}"\n}}'
        for name, source in SOURCES.items()
    ]
    return "\n".join([*headers, *parts, ""])


@functools.cache
def library(load_one: Callable[..., Any], *flags: str) -> str:
    """The path of what all are compiled into."""
    found = importlib.util.find_spec("colbert")
    assert found is not None and found.origin is not None
    code = together(Path(found.origin).parent)
    if not TOGETHER.exists() or TOGETHER.read_text() != code:
        TOGETHER.parent.mkdir(exist_ok=True)
        TOGETHER.write_text(code)
    quickly = [*flags, "-O0"]  # of a few passages; optimising them is a quarter of what compiling takes
    return str(load_one("colbert_extensions", [str(TOGETHER)], extra_cflags=quickly, is_python_module=False))


def load(load_one: Callable[..., Any], name: str, sources: list[str], **more: Any) -> ModuleType:
    """`load_one`, which is `torch.utils.cpp_extension.load`, but for those of `SOURCES`."""
    if name not in SOURCES:
        return load_one(name, sources, **more)
    [source] = sources
    assert source.endswith(SOURCES[name])
    spec = importlib.util.spec_from_file_location(name, library(load_one, *more["extra_cflags"]))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def whole_libraries() -> None:
    """What tests/export/conftest.py keeps transformers from loading, other libraries need."""
    for name in ("sklearn", "scipy"):
        if sys.modules.get(name, pytest) is None:
            del sys.modules[name]


@pytest.fixture(scope="session", autouse=True)
def colbert_extensions(whole_libraries: None) -> None:
    """Before anything imports the library, whose modules take the function's name."""
    if importlib.util.find_spec("colbert") is not None:
        from torch.utils import cpp_extension

        cpp_extension.load = functools.partial(load, cpp_extension.load)

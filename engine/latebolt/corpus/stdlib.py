"""A real corpus that every machine has: the docstrings of the installed Python standard library.

Python modules are read as source (nothing is imported); modules written in C are imported, which has no
side effects, and asked for their docstrings. Private names are left out.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from latebolt import garbage
from latebolt.corpus.documents import Document

_LEFT_OUT = {
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "distutils",
    "site-packages",
    "turtledemo",
    "ensurepip",
    "pydoc_data",
}
_MOST_CHARACTERS = 1600  # about what the encoder reads
_LEAST_CHARACTERS = 25


def read_stdlib() -> list[Document]:
    """Public modules, classes and functions with a docstring; sorted by name, each once."""
    found: dict[str, Document] = {}
    with garbage.none_collected():  # trees of syntax are many objects
        for path, module in _sources():
            for document in _from_source(path, module):
                found.setdefault(document.id or "", document)
    for module in sorted(_compiled_modules()):
        for document in _from_compiled(module):
            found.setdefault(document.id or "", document)
    return [found[name] for name in sorted(found)]


def _sources() -> Iterator[tuple[Path, str]]:
    """Files of modules and their names. Folders that are left out are not walked: installed packages have ten
    times as many files as the library."""
    root, paths = Path(sysconfig.get_path("stdlib")), []
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if _is_public(name)]
        paths += [Path(folder, name) for name in names if name.endswith(".py")]
    for path in sorted(paths):
        parts = [part for part in path.relative_to(root).with_suffix("").parts if part != "__init__"]
        if all(map(_is_public, parts)):
            yield path, ".".join(parts)


def _is_public(name: str) -> bool:
    return name not in _LEFT_OUT and not name.startswith(("_", "."))


def _document(name: str, signature: str, docstring: str | None, module: str, kind: str) -> Iterator[Document]:
    text = inspect.cleandoc(docstring or "")
    if len(text) >= _LEAST_CHARACTERS:
        text = f"{name}{signature}\n{text[:_MOST_CHARACTERS]}"
        yield Document(name, text, {"module": module, "kind": kind})


def _from_source(path: Path, module: str) -> Iterator[Document]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return  # a few files of the library hold deliberate errors
    yield from _document(module, "", ast.get_docstring(tree, clean=False), module, "module")
    yield from _from_body(tree.body, module, module)


def _from_body(body: list[ast.stmt], prefix: str, module: str) -> Iterator[Document]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            name = f"{prefix}.{node.name}"
            yield from _document(name, "", ast.get_docstring(node, clean=False), module, "class")
            yield from _from_body(node.body, name, module)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            arguments = [
                a.arg for a in node.args.posonlyargs + node.args.args if a.arg not in ("self", "cls")
            ]
            signature = f"({', '.join(arguments + [a.arg for a in node.args.kwonlyargs])})"
            yield from _document(
                f"{prefix}.{node.name}", signature, ast.get_docstring(node, clean=False), module, "function"
            )


def _compiled_modules() -> Iterator[str]:
    folder = Path(sysconfig.get_path("stdlib")) / "lib-dynload"
    names = {*sys.builtin_module_names, *(path.name.split(".")[0] for path in folder.glob("*.so"))}
    # `os` is Python, but most of its functions are C ones of another name.
    return (name for name in {*names, "os"} if not name.startswith(("_", "xx")) and name not in _LEFT_OUT)


def _from_compiled(name: str) -> Iterator[Document]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # we only read what it says of itself
            module: ModuleType = importlib.import_module(name)
    except ImportError:
        return  # built without the library it needs
    yield from _document(name, "", module.__doc__, name, "module")
    prefix = "" if name == "builtins" else f"{name}."
    for member_name, member in sorted(vars(module).items()):
        if member_name.startswith("_") or inspect.ismodule(member):
            continue
        full = prefix + member_name
        if inspect.isclass(member):
            yield from _document(full, "", member.__doc__, name, "class")
            for inner_name, inner in sorted(vars(member).items()):
                if not inner_name.startswith("_") and callable(inner):
                    yield from _document(f"{full}.{inner_name}", "()", inner.__doc__, name, "function")
        elif inspect.isbuiltin(member):
            yield from _document(full, "()", member.__doc__, name, "function")

"""The texts an export measures with: fixed ones to calibrate, others to check parity.

Calibration texts are shipped, so that a model rebuilt elsewhere gets the same scales. Parity texts are the
standard library's docstrings, real text that every machine has and that calibration never saw.
"""

from __future__ import annotations

import importlib
import inspect
from importlib import resources

# Modules whose docstrings read as prose, code notes and tables; all import without side effects.
MODULES = (
    "argparse", "asyncio", "calendar", "collections", "csv", "datetime", "decimal", "difflib",
    "email.message", "fractions", "functools", "hashlib", "heapq", "http.client", "inspect", "json",
    "logging", "mailbox", "pathlib", "pickle", "random", "re", "shutil", "socket", "statistics",
    "string", "subprocess", "tarfile", "tempfile", "textwrap", "threading", "unittest",
    "urllib.request", "zipfile",
)  # fmt: skip
OTHER_SCRIPTS = (
    "Die Donau entspringt im Schwarzwald und mündet nach 2.857 Kilometern ins Schwarze Meer.",
    "El tren de alta velocidad une las dos ciudades en menos de tres horas.",
    "水在標準大氣壓下的沸點是攝氏一百度。",
    "富士山は日本で最も高い山で、標高は3,776メートルである。",
    "Волга — самая длинная река в Европе.",
    "نهر النيل أطول نهر في أفريقيا.",
)
LEAST = 200  # characters; shorter docstrings are mostly one phrase


def calibration_texts() -> list[str]:
    """Passages of prose, code, tables, questions and other scripts, the same in every installation."""
    file = resources.files("latebolt_export") / "data" / "calibration.txt"
    return [part.strip() for part in file.read_text(encoding="utf-8").split("\n\n") if part.strip()]


def parity_texts(count: int) -> list[str]:
    """At most `count` texts: docstrings spread evenly over the library, then sentences in other scripts."""
    found: dict[str, None] = {}  # ordered, without repeats
    for name in MODULES:
        for value in vars(importlib.import_module(name)).values():
            if not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            text = inspect.cleandoc(value.__doc__) if isinstance(value.__doc__, str) else ""
            if len(text) >= LEAST:
                found[text] = None
    docstrings = list(found)
    wanted = max(1, count - len(OTHER_SCRIPTS))
    step = max(1, len(docstrings) // wanted)
    return [*docstrings[::step][:wanted], *OTHER_SCRIPTS][:count]

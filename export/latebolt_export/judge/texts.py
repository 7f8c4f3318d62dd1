"""The texts an export measures with: fixed ones to calibrate, others to check parity.

Calibration texts are shipped, so that a model rebuilt elsewhere gets the same scales. Parity texts are the
standard library's docstrings, real text that every machine has and that calibration never saw.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from importlib import resources

from latebolt.contract import Frame

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
# One text of each, and one as long as the model takes: around the sizes of blocks, windows and stretches.
LENGTHS = (1, 2, 3, 5, 9, 17, 33, 65, 66, 129, 257, 513, 1025)
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


def of_lengths(body: Sequence[int], frame: Frame, limit: int) -> list[list[int]]:
    """Ids of exactly 1 .. `limit` tokens, as many texts as `LENGTHS` has below it and one more.

    Args:
        body: ids of real text, repeated where it is too short.
    """
    texts = []
    for i, length in enumerate([*(n for n in LENGTHS if n < limit), limit]):
        room = max(1, length - len(frame.prefix) - len(frame.suffix))
        start = (i * 997) % len(body)  # other text each time
        many = -(-(start + room) // len(body))
        text = (list(body) * many)[start : start + room]
        texts.append([*frame.prefix, *text, *frame.suffix][:length])
    return texts

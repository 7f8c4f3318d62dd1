"""Saves drawn cases with PyLate, whichever version is installed, and keeps the vectors of its own reading.

python -m differential.with_pylate FOLDER FIRST COUNT
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pylate import models
from sentence_transformers.models import Transformer

from differential import keeping
from differential.drawing import pylate as draw
from differential.texts import TEXTS
from differential.writing import write_base

OWN = (
    "query_prefix",
    "document_prefix",
    "query_length",
    "document_length",
    "do_query_expansion",
    "attend_to_expansion_tokens",
    "skiplist_words",
    "prompts",
    "default_prompt_name",
)


def build(settings: dict[str, Any], base: Path) -> Any:
    """The model of a case, in memory."""
    modules: list[torch.nn.Module] = [Transformer(str(base), do_lower_case=settings["do_lower_case"])]
    old = version("pylate").startswith("1.2")
    for each in settings["dense"]:
        kind = (
            torch.nn.Identity if each["activation"] == "Identity" else getattr(torch.nn, each["activation"])
        )
        skipped = ("activation", "use_residual") if old else ("activation",)
        options = {key: value for key, value in each.items() if key not in skipped}
        modules.append(models.Dense(**options, activation_function=kind()))
    told = {key: settings[key] for key in OWN if not (old and key == "do_query_expansion")}
    return models.ColBERT(modules=modules, device="cpu", **told)


def encode(folder: Path) -> tuple[list[Any], list[Any]]:
    """Query and document vectors of a saved model."""
    model = models.ColBERT(str(folder), device="cpu")
    options = {"batch_size": 4, "show_progress_bar": False}
    return model.encode(TEXTS, is_query=True, **options), model.encode(TEXTS, is_query=False, **options)


def main(out: Path, numbers: range) -> None:
    torch.set_num_threads(1)
    told = version("pylate")
    for number in numbers:
        case = draw(number, told)

        def make(folder: Path, base: Path, case: Any = case) -> tuple[list[Any], list[Any]]:
            write_base(base, case.base)
            torch.manual_seed(case.base["seed"])
            build(case.settings, base).save(str(folder), create_model_card=False)
            return encode(folder)

        keeping.keep(out, case, told, make)


if __name__ == "__main__":
    main(Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[2]) + int(sys.argv[3])))

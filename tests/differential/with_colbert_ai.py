"""Saves drawn cases with colbert-ai and keeps the vectors that its own reading of them gives.

python -m differential.with_colbert_ai FOLDER FIRST COUNT
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from colbert.infra import ColBERTConfig
from colbert.modeling.base_colbert import BaseColBERT
from colbert.modeling.checkpoint import Checkpoint
from colbert.modeling.colbert import ColBERT

from differential import keeping
from differential.drawing import colbert_ai as draw
from differential.texts import TEXTS
from differential.writing import write_base


def save(settings: dict[str, Any], seed: int, base: Path, folder: Path) -> None:
    """The model of a case, as the library's trainer saves it."""
    torch.manual_seed(seed)
    made = BaseColBERT(str(base), ColBERTConfig(**settings))
    made.model.linear.weight.data = torch.randn_like(made.model.linear.weight)
    made.save(str(folder))


def encode(folder: Path) -> tuple[list[Any], list[Any]]:
    """Query and document vectors of a saved model."""
    model = Checkpoint(str(folder), colbert_config=ColBERTConfig(), verbose=0)
    queries = model.queryFromText(TEXTS, bsize=4, to_cpu=True)
    [documents] = model.docFromText(TEXTS, bsize=4, keep_dims=False)
    return list(queries.numpy()), [each.numpy() for each in documents]


def main(out: Path, numbers: range) -> None:
    torch.set_num_threads(1)
    ColBERT.loaded_extensions = True  # the library need not compile what makes scores
    for number in numbers:
        case = draw(number)

        def make(folder: Path, base: Path, case: Any = case) -> tuple[list[Any], list[Any]]:
            write_base(base, case.base)
            save(case.settings, case.base["seed"], base, folder)
            return encode(folder)

        keeping.keep(out, case, version("colbert-ai"), make)


if __name__ == "__main__":
    main(Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[2]) + int(sys.argv[3])))

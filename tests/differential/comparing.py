"""Exports what a library saved, and puts our vectors beside those that the library kept.

Runs in the exporter's environment. A case ends in one of: "same", "different", "refused" (by us, by name),
"refused without a reason" (nothing in it is outside), "taken" (something is outside, and nobody said so),
"their own refusal" (the library did not want it).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from differential import keeping
from differential.texts import TEXTS
from latebolt import Encoder
from latebolt.checks import check_texts
from latebolt.contract import Contract, Graph, Head, Provenance
from latebolt.encoder.text import TextPipeline
from latebolt.errors import ExportError, LateboltError
from latebolt_export import export_model
from latebolt_export.source import checkpoint, heads
from latebolt_export.torch import module

CLOSE = 1e-4
GOOD = ("same", "refused", "their own refusal")


@dataclass(frozen=True)
class Row:
    """What became of a case. `tokens` are (theirs, ours) in all; `worst` is the largest difference."""

    place: Path
    library: str
    version: str
    outcome: str
    detail: str = ""
    tokens: tuple[int, int] = (0, 0)
    worst: float = 0.0
    settings: Any = None


def compare(place: Path, exported: bool = True) -> Row:
    """One kept case through an export and an Encoder, or through the reading alone and the PyTorch module.

    The second takes a tenth of the time: all that depends on settings is in it, and that a graph gives what
    the module gives is what every export measures by itself.
    """
    record = json.loads((place / "case.json").read_text())

    def row(outcome: str, detail: str = "", tokens: tuple[int, int] = (0, 0), worst: float = 0.0) -> Row:
        told = {"base": record["base"], **record["settings"]}
        return Row(place, record["library"], record["version"], outcome, detail, tokens, worst, told)

    if record["refused"]:
        return row("their own refusal", record["refused"])
    outside = record["outside"]
    try:
        found = through_an_export(place / "model") if exported else through_the_module(place / "model")
    except LateboltError as error:
        message = str(error).replace(str(place), "")
        named = any(name.lower() in message.lower() for name in outside)
        return row("refused" if named else "refused without a reason", message)
    detail, tokens, worst = beside(keeping.vectors(place), found)
    if detail:
        return row("different", detail, tokens, worst)
    return row("taken" if outside else "same", ", ".join(outside), tokens, worst)


def through_an_export(model: Path) -> dict[str, Any]:
    """Our vectors of the texts, as queries and as documents."""
    with tempfile.TemporaryDirectory() as folder:
        export_model(model, Path(folder) / "made", precisions=("fp32",))
        encoder = Encoder.load(Path(folder) / "made", threads=1)
        return {"query": encoder.encode_queries(TEXTS), "document": encoder.encode_documents(TEXTS)}


def through_the_module(model: Path) -> dict[str, Any]:
    """The same from what an export starts with: the checkpoint as it is read, and our module of it."""
    read = checkpoint.load(model)
    outputs = heads.choose(read.projections, None)
    embedder = module.build(read, outputs)
    described = Contract(
        name=read.name,
        architecture=read.architecture,
        hidden_size=read.hidden,
        max_tokens=read.max_tokens,
        heads=tuple(Head(output.dim, output.name) for output in outputs),
        frame=read.frame,
        query=read.query,
        document=read.document,
        graphs={"fp32": Graph("model.onnx", 0, "")},
        source=Provenance(read.name),
        lowercase=read.lowercase,
    )
    if problems := described.problems():
        raise ExportError("; ".join(problems))
    text = TextPipeline(Tokenizer.from_str(read.tokenizer_json), described)
    found: dict[str, Any] = {}
    for kind in ("query", "document"):
        found[kind] = []
        for tokens in text.tokenize(check_texts(TEXTS), kind):
            ids = torch.from_numpy(tokens.ids)[None]
            mask = (torch.arange(ids.shape[1]) < tokens.attended).long()[None]
            with torch.inference_mode():
                vectors = embedder(ids, mask)[outputs[0].name][0].numpy()
            found[kind].append(vectors if tokens.keep is None else vectors[tokens.keep])
    return found


def beside(expected: dict[str, list[np.ndarray]], found: Any) -> tuple[str, tuple[int, int], float]:
    """(the first difference in words, or ""; tokens of both; the largest difference of vectors)."""
    first, worst, theirs, ours = "", 0.0, 0, 0
    for kind, matrices in expected.items():
        for i, matrix in enumerate(matrices):
            mine = np.asarray(found[kind][i])
            theirs, ours = theirs + len(matrix), ours + len(mine)
            if matrix.shape != mine.shape:
                first = first or f"{kind} {i} {TEXTS[i][:30]!r}: {matrix.shape} and {mine.shape}"
                continue
            apart = float(np.abs(matrix - mine).max(initial=0.0))
            worst = max(worst, apart)
            if apart > CLOSE:
                first = first or f"{kind} {i} {TEXTS[i][:30]!r}: apart by {apart:.2g}"
    return first, (theirs, ours), worst


def bad(rows: Sequence[Row]) -> list[str]:
    """The rows that should not be, a line each."""
    return [
        f"{row.place.name}: {row.outcome}: {row.detail} ({row.settings})"
        for row in rows
        if row.outcome not in GOOD
    ]

"""Derives the contract of a model folder that somebody else made from its small files and its files' names.

The graphs are not opened: their names say the precision, the settings say the width, and the session looks
for an output of that width.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from latebolt.contract import Contract, Head, Provenance
from latebolt.errors import ModelError
from latebolt.formats import graphs, lengths, settings


def derive(folder: Path, names: Sequence[str], name: str, revision: str = "") -> Contract:
    """The contract of a folder without latebolt.json.

    Args:
        folder: holds the small files.
        names: all files of the model, relative to the folder; its graphs need not be there yet.
        name: what the model is called.
        revision: the commit the files come from.
    Raises:
        ModelError: it is no model folder of a known layout, or contradicts itself.
    """
    found = graphs.by_precision(names)
    if not found:
        raise ModelError(_without_graph(folder, names))
    stated = settings.read(folder)
    if stated.dim is None:
        raise ModelError(
            f"{folder}: no file says how wide its token vectors are (dim in artifact.metadata, a Dense in "
            f"modules.json, embedding_dim in onnx_config.json), so it may be no late-interaction model. Make "
            f'one of its checkpoint with "latebolt export".'
        )
    contract = Contract(
        name=name,
        architecture=stated.architecture,
        hidden_size=stated.hidden,
        max_tokens=stated.max_tokens,
        heads=(Head(stated.dim, output="", source="the graph's own"),),
        frame=stated.frame,
        query=stated.query,
        document=stated.document,
        graphs=found,
        source=Provenance(name=name, revision=revision),
        lowercase=stated.lowercase,
        notes=lengths.beyond(folder, stated.max_tokens),
    )
    if problems := contract.problems():
        raise ModelError(f"{folder}: {'; '.join(problems)}. Correct its settings.")
    return contract


def _without_graph(folder: Path, names: Sequence[str]) -> str:
    several = graphs.whole(names)
    if several:
        return (
            f"{folder}: holds several graphs ({', '.join(several)}). Keep one of them, or name it model.onnx."
        )
    return (
        f"{folder}: has no latebolt.json and no ONNX graph (model.onnx, model_fp16.onnx, "
        f"model_int8.onnx, here or in onnx/), so it is no model. Make one of a checkpoint "
        f'with "latebolt export {shlex.quote(str(folder))} OUT".'
    )

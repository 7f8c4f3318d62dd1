"""What several adapters accept as a model or an index: an object, or what loads one.

Knows no framework.
"""

from __future__ import annotations

from pathlib import Path

from latebolt.encoder.encoder import Encoder
from latebolt.errors import InvalidInput
from latebolt.index.index import Index


def encoder_of(model: Encoder | str | Path) -> Encoder:
    """An encoder as it is, or the model of a name: "starter", an exported folder, a hub id.

    Raises:
        InvalidInput: it is neither.
        ModelError: there is no such model.
    """
    if isinstance(model, Encoder):
        return model
    if isinstance(model, str | Path):
        return Encoder.load(model)
    raise InvalidInput(f"model should be an Encoder or the name of a model, got {type(model).__name__}.")


def index_of(index: Index | str | Path) -> Index:
    """An index as it is, or the one in a folder.

    Raises:
        InvalidInput: it is neither.
        IndexNotFound: there is none in the folder.
    """
    if isinstance(index, Index):
        return index
    if isinstance(index, str | Path):
        return Index.open(index)
    raise InvalidInput(f"index should be an Index or the folder of one, got {type(index).__name__}.")


def index_for(
    index: Index | str | Path,
    model: Encoder | str | Path,
    bits: int,
    pool_factor: int = 1,
    max_vectors: int | None = None,
) -> Index:
    """An index to add documents to: the one that is given, or a new one in a folder.

    The folder is made with the first addition: one that is refused leaves nothing that is in the way.

    Raises:
        IndexExists: there is one in the folder already.
    """
    if isinstance(index, Index):
        return index
    return Index.create(
        index,
        encoder_of(model),
        bits=bits,
        with_first_add=True,
        pool_factor=pool_factor,
        max_vectors=max_vectors,
    )

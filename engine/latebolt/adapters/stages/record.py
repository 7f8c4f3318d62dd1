"""First stages as JSON values and back: what the metadata of a collection names and holds. What comes back is
checked, as others may have written it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from latebolt.adapters.stages.base import POOL_FACTOR, MeanStage, PooledStage, Stage
from latebolt.adapters.stages.learned import LearnedStage
from latebolt.errors import InvalidInput

KINDS: Final = ("mean", "pooled", "learned")


def named_stage(wanted: str | Stage | None, dim: int) -> Stage | None:
    """What a caller asks for by name, for token vectors of size dim.

    Raises:
        InvalidInput: there is no such stage, or it is of another width.
    """
    if wanted is None:
        return None
    if isinstance(wanted, Stage):
        width = wanted.dim if isinstance(wanted, LearnedStage) else wanted.size
        if width != dim:
            raise InvalidInput(f"the first stage is made for token vectors of size {width}, got {dim}.")
        return wanted
    if wanted == "mean":
        return MeanStage(dim)
    if wanted == "pooled":
        return PooledStage(dim)
    if wanted == "learned":
        raise InvalidInput(
            'first_stage "learned" is fitted to a corpus: give LearnedStage.fit(vectors), or use '
            '"latebolt push --first-stage learned".'
        )
    raise InvalidInput(f'first_stage should be "mean", "pooled", a Stage or None, got {wanted!r}.')


def stage_from(record: Any, dim: int, place: str) -> Stage:
    """What `Stage.record` gave.

    Args:
        dim: of the token vectors.
        place: whose, for messages.
    Raises:
        InvalidInput: it is no such record, or of another width.
    """
    kind = record.get("kind") if isinstance(record, Mapping) else None
    if kind == "mean":
        return MeanStage(dim)
    if kind == "pooled":
        try:
            return PooledStage(dim, record.get("factor", POOL_FACTOR))
        except InvalidInput as error:
            raise InvalidInput(f"{place}: {error}") from error
    if kind == "learned":
        made = LearnedStage.from_record(record, place)
        if made.dim != dim:
            raise InvalidInput(f"{place}: its first stage is for vectors of size {made.dim}, not {dim}.")
        return made
    raise InvalidInput(
        f'{place}: has a first stage "{kind}", which this version does not know. Use a newer latebolt.'
    )

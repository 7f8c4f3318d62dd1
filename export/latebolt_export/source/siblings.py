"""Joins the heads of checkpoints that were published one a width, such as jina-colbert-v2, -96 and -64.

Heads may share a graph only if the encoder below them is the same, which is compared, not assumed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from latebolt.errors import ExportError
from latebolt_export.source.heads import Projection

if TYPE_CHECKING:
    from latebolt_export.source.checkpoint import Checkpoint


def join(
    checkpoint: Checkpoint, siblings: Sequence[Checkpoint]
) -> tuple[Checkpoint, list[tuple[Checkpoint, str]]]:
    """The checkpoint with the heads of all siblings that have its encoder; the others, each with the reason.

    Raises:
        ExportError: two heads have one width.
    """
    projections = list(checkpoint.projections)
    apart: list[tuple[Checkpoint, str]] = []
    for sibling in siblings:
        difference = differs(checkpoint, sibling)
        if difference:
            apart.append((sibling, f"{sibling.name}: {difference}, so it becomes a model of its own"))
            continue
        for projection in sibling.projections:
            if any(projection.dim == own.dim for own in projections):
                raise ExportError(
                    f"{sibling.name}: has a {projection.dim} head, as another of the checkpoints has. "
                    f"Name one checkpoint a width."
                )
            projections.append(_named(projection, sibling.name, checkpoint.projections))
    return dataclasses.replace(checkpoint, projections=tuple(projections)), apart


def differs(one: Checkpoint, other: Checkpoint) -> str:
    """What keeps two checkpoints from sharing an encoder and text rules, in words; "" for nothing."""
    if names := one.state.keys() ^ other.state.keys():
        return f"only one of the two has tensor {min(names)}"
    for name, tensor in one.state.items():
        twin = other.state[name]
        if tensor.shape != twin.shape:
            return f"{name} has shape {list(twin.shape)}, not {list(tensor.shape)}"
        if not tensor.equal(twin):
            most = float((tensor.float() - twin.float()).abs().max())
            return f"{name} differs by up to {most:.2g}"
    for part in ("plan", "frame", "query", "document"):
        if getattr(one, part) != getattr(other, part):
            return f"the {part} rules differ"
    return ""


def _named(projection: Projection, name: str, wider: Sequence[Projection]) -> Projection:
    """The projection with its checkpoint in its source, and whether it only repeats rows of a wider one."""
    source = f"{projection.source} of {name}"
    for other in wider:
        single = len(projection.layers) == len(other.layers) == 1
        if single and projection.layers[0].weight.equal(other.layers[0].weight[: projection.dim]):
            source += f", equal to rows 0:{projection.dim} of the {other.dim} head"
    return dataclasses.replace(projection, source=source)

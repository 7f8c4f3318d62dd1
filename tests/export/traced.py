"""Traces and fuses a small checkpoint of any family, for tests that look at its graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from families import Family

from latebolt_export.graph import fuse
from latebolt_export.source import architectures
from latebolt_export.source.architectures import Plan
from latebolt_export.source.heads import Dense, Projection, choose
from latebolt_export.torch import encoder
from latebolt_export.torch import trace as graph
from latebolt_export.torch.module import TokenEmbedder, assemble

# Around the window of ModernBERT (64 on each side) and the stretch of ALiBi (256 queries).
LENGTHS = (1, 2, 17, 64, 65, 66, 129, 256, 257, 318, 513, 640)
DIM = 16


@dataclass
class Traced:
    """One family's module, its fused graph, and the folder its large weights would lie in."""

    family: Family
    plan: Plan
    module: TokenEmbedder
    fused: onnx.ModelProto
    folder: Path

    def texts(self) -> Iterator[torch.Tensor]:
        """One text of each length: int64 [1, tokens]."""
        generator = torch.Generator().manual_seed(1)
        for length in LENGTHS:
            if length <= self.plan.max_tokens:
                yield torch.randint(3, 95, (1, length), generator=generator)

    def vectors(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> np.ndarray:
        """What the module gives: float32 [batch, tokens, DIM]."""
        with torch.inference_mode():
            found = self.module(ids, torch.ones_like(ids) if mask is None else mask)
        return found[f"embeddings_{DIM}"].numpy()


def trace(family: Family, name: str, folder: Path) -> Traced:
    """Build, trace and fuse; checks no counts."""
    plan = architectures.plan(family.config, family.state.keys(), name)
    torch.manual_seed(9)
    projections = (Projection((Dense(torch.randn(DIM, plan.hidden)),), "linear.weight"),)
    made = encoder.build(plan, family.state, name)
    module = assemble(made, projections, choose(projections, None))
    return Traced(family, plan, module, fuse.fuse(graph.trace(module, folder)), folder)

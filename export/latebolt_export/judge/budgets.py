"""How far each precision may stray from the PyTorch module before an export counts as failed."""

from __future__ import annotations

from dataclasses import dataclass

from latebolt.errors import InvalidInput


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """Bounds on the unit token vectors of real texts, worst head counted."""

    fp32_max_abs: float = 1e-4  # largest absolute difference of one component
    fp16_min_cosine: float = 0.999  # cosine of the worst token
    int8_mean_cosine: float = 0.99  # mean cosine over all tokens
    int8_ndcg_loss: float = 0.005  # nDCG@10 below fp32, where a collection is given

    def __post_init__(self) -> None:
        for name in ("fp32_max_abs", "int8_ndcg_loss"):
            if getattr(self, name) <= 0:
                raise InvalidInput(f"Budgets.{name} should be above 0, got {getattr(self, name)}.")
        for name in ("fp16_min_cosine", "int8_mean_cosine"):
            if not -1 <= getattr(self, name) <= 1:
                raise InvalidInput(f"Budgets.{name} should be in -1..1, got {getattr(self, name)}.")

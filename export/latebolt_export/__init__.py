"""Checkpoint in, model folder out: the only half of latebolt that may load PyTorch.

Importing this package loads neither torch nor onnx; they are asked for when an export starts.
"""

from __future__ import annotations

import latebolt  # noqa: F401 - first of all: it switches ONNX Runtime's reports off
from latebolt_export.judge.budgets import Budgets
from latebolt_export.pipeline import export_model

__all__ = ["Budgets", "export_model"]

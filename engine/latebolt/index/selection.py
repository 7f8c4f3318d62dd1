"""Applies a filter to one segment: the database answers single comparisons, NumPy joins them.

Answers to comparisons are kept: a segment never changes, and the same filters come again and again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from latebolt.index.documents import STRING
from latebolt.index.filter_tree import ID, AllOf, AnyOf, Compare, Exists, Expr, In, Not
from latebolt.index.texts_reader import Int64, TextsReader

Mask = npt.NDArray[np.bool_]
_KEPT: Final = 64  # comparisons a segment remembers, one bit a document each


class Selector:
    """Filters over the documents of one segment, deleted ones included."""

    def __init__(self, texts: TextsReader, n_documents: int) -> None:
        self._texts, self._n_documents = texts, n_documents
        self._answers: OrderedDict[Expr, npt.NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()

    def select(self, expr: Expr) -> Mask:
        """Bool [n_documents], a fresh array."""
        match expr:
            case Not(inner):
                return ~self.select(inner)
            case AllOf(parts):
                mask = np.ones(self._n_documents, np.bool_)
                for part in parts:
                    mask &= self.select(part)
                return mask
            case AnyOf(parts):
                mask = np.zeros(self._n_documents, np.bool_)
                for part in parts:
                    mask |= self.select(part)
                return mask
        with self._lock:
            packed = self._answers.get(expr)
        if packed is None:
            packed = np.packbits(self._ask(expr))
        with self._lock:
            self._answers[expr] = packed
            self._answers.move_to_end(expr)
            if len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
        return np.unpackbits(packed, count=self._n_documents).view(np.bool_)

    def _ask(self, expr: Any) -> Mask:
        mask = np.zeros(self._n_documents, np.bool_)
        match expr:
            case Exists(field):
                if field == ID:
                    mask[:] = True
                else:
                    mask[self._texts.rows_with_field(field)] = True
            case Compare(field, op, value):
                mask[self._rows(field, op, value)] = True
            case In(field, values) if field == ID:
                ids = [str(value.value) for value in values if value.kind == STRING]
                mask[[row for _, row in self._texts.rows_of_ids(ids)]] = True
            case In(field, values):
                for value in values:
                    mask[self._rows(field, "=", value)] = True
        return mask

    def _rows(self, field: str, op: str, value: Any) -> Int64:
        if field == ID:
            return self._texts.rows_with_id(op, value)
        return self._texts.rows_with_value(field, op, value)

"""Applies a filter to one segment: the database answers single comparisons, NumPy joins them.

Answers to comparisons are kept, within so many bytes: a segment never changes, and the same filters come
again and again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from latebolt.arrays import Int64
from latebolt.index.documents.documents import STRING
from latebolt.index.documents.texts_reader import TextsReader
from latebolt.index.filters.tree import ID, AllOf, AnyOf, Compare, Exists, Expr, In, Not

Mask = npt.NDArray[np.bool_]
# Bytes that a segment remembers of comparisons, each with a bit a document; of these as much for one.
_KEPT_BYTES: Final = 4 << 20
_LARGEST_BYTES: Final = _KEPT_BYTES // 8
_KEPT_FIELDS: Final = 256
_VALUE_BYTES: Final = 120  # of a value in a list, its text aside


class Selector:
    """Filters over the documents of one segment, deleted ones included."""

    def __init__(self, texts: TextsReader, n_documents: int) -> None:
        self._texts, self._n_documents = texts, n_documents
        self._answers: OrderedDict[Expr, npt.NDArray[np.uint8]] = OrderedDict()
        self._kept_bytes = 0
        self._fields: dict[str, bool] = {}
        self._lock = threading.Lock()

    def has_field(self, field: str) -> bool:
        """Whether a document has the field in its metadata."""
        known = self._fields.get(field)
        if known is None:
            known = self._texts.has_field(field)
            if len(self._fields) < _KEPT_FIELDS:
                self._fields[field] = known
        return known

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
        if _size(expr) > _LARGEST_BYTES:
            return self._ask(expr)
        with self._lock:
            packed = self._answers.get(expr)
            if packed is not None:
                self._answers.move_to_end(expr)
        if packed is None:
            packed = np.packbits(self._ask(expr))
            self._keep(expr, packed)
        return np.unpackbits(packed, count=self._n_documents).view(np.bool_)

    def _keep(self, expr: Expr, packed: npt.NDArray[np.uint8]) -> None:
        # One answer is kept at any rate, of a segment so large that it alone is more than all may be.
        most = max(_KEPT_BYTES, 2 * packed.nbytes)
        with self._lock:
            if expr in self._answers:
                return
            self._answers[expr] = packed
            self._kept_bytes += _size(expr) + packed.nbytes
            while self._kept_bytes > most:
                oldest, answer = self._answers.popitem(last=False)
                self._kept_bytes -= _size(oldest) + answer.nbytes

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
                mask[self._texts.rows_with_any(field, values)] = True
        return mask

    def _rows(self, field: str, op: str, value: Any) -> Int64:
        if field == ID:
            return self._texts.rows_with_id(op, value)
        return self._texts.rows_with_value(field, op, value)


def _size(expr: Any) -> int:
    """Bytes of a comparison, about."""
    match expr:
        case In(field, values):
            texts = sum(len(value.value) for value in values if isinstance(value.value, str))
            return _VALUE_BYTES * (1 + len(values)) + 4 * (len(field) + texts)
        case Compare(field, _, value):
            text = value.value if isinstance(value.value, str) else ""
            return 2 * _VALUE_BYTES + 4 * (len(field) + len(text))
        case _:
            return 2 * _VALUE_BYTES + 4 * len(expr.field)

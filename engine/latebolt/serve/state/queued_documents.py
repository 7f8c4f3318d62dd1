"""Documents of a request as they wait to be added to an index: small, and out of the garbage collector's way.

Checked where the request was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import msgspec


class QueuedDocument(msgspec.Struct, frozen=True, gc=False):
    """A checked document as it waits to be added: three objects, none of which the garbage collector visits.

    A large addition is tens of thousands of these, and a collection stops every thread while it lasts.
    """

    id: str
    text: str
    metadata_json: bytes | None

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        return len(self.id) + len(self.text) + len(self.metadata_json or b"")


class MetadataOf(Sequence[dict[str, Any] | None]):
    """The metadata of documents, made of their JSON when they are asked for, and not all at once."""

    def __init__(self, documents: Sequence[QueuedDocument]) -> None:
        self._documents = documents

    def __len__(self) -> int:
        return len(self._documents)

    @overload
    def __getitem__(self, key: int) -> dict[str, Any] | None: ...
    @overload
    def __getitem__(self, key: slice) -> list[dict[str, Any] | None]: ...
    def __getitem__(self, key: int | slice) -> Any:
        """One, or a list of some."""
        if isinstance(key, slice):
            return [_decoded(document) for document in self._documents[key]]
        return _decoded(self._documents[key])


def _decoded(document: QueuedDocument) -> Any:
    return None if document.metadata_json is None else msgspec.json.decode(document.metadata_json)

"""Ray: texts encoded in bulk (`encode`), an index searched by several machines (`serve`).

Each is loaded when it is asked for: a worker that searches has no use for Ray Data, nor one that encodes for
the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latebolt.adapters.ray.encode import EncodeTexts, Summary, as_table, write_parts

__all__ = ["EncodeTexts", "Summary", "as_table", "write_parts"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from latebolt.adapters.ray import encode

    return getattr(encode, name)

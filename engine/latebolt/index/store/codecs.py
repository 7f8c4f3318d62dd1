"""Makes the codecs that an index keeps again, and sees that they fit the segments they are to read.

Kernels index by the shapes of a codec's arrays, so none is used that no codec could have written.
"""

from __future__ import annotations

from typing import Final

from latebolt.codec.base import Codec
from latebolt.codec.restore import KINDS, UnfitState, restore
from latebolt.errors import IndexCorrupt, IndexNewer, InvalidInput
from latebolt.index.format import layout
from latebolt.index.format.layout import Column
from latebolt.index.format.mmap_array import RESTORE
from latebolt.index.store.segment import Segment
from latebolt.index.store.store import StoredCodec

_BEFORE_0_1: Final = "residual"
_CELL_DTYPES: Final = ("<u2", "<u4")  # whichever the codec had centroids for when it wrote them


def restored(stored: StoredCodec, dim: int) -> Codec:
    """The codec that was stored.

    Args:
        dim: width of the index's vectors.
    Raises:
        IndexCorrupt: its arrays are not those of such a codec.
        IndexNewer: a kind that this version does not know.
    """
    try:
        codec = restore(stored.arrays, stored.info)
    except UnfitState as error:
        path = stored.folder if error.array == "info" else stored.folder / f"{error.array}.npy"
        raise IndexCorrupt(path, "content", error.expected, error.got, RESTORE) from error
    except InvalidInput as error:
        kind = stored.info.get("kind")
        if kind == _BEFORE_0_1:
            fix = "It is of before version 0.1.0; build the index again."
            raise IndexCorrupt(
                stored.folder, "the kind of the codec", " or ".join(KINDS), kind, fix
            ) from error
        raise IndexNewer(stored.folder, "the kind of the codec", " or ".join(KINDS), kind) from error
    if codec.dim != dim:
        raise IndexCorrupt(stored.folder, "dim", dim, codec.dim, RESTORE)
    return codec


def columns_of(codec: Codec) -> tuple[Column, ...]:
    """The columns that a codec writes, as a segment has them."""
    return tuple(Column(*spec) for spec in codec.columns)


def check_columns(segment: Segment, codec: Codec) -> None:
    """Raise IndexCorrupt unless a segment has the columns that its codec reads."""
    if [_alike(*spec) for spec in codec.columns] != [
        _alike(c.name, c.dtype, c.width) for c in segment.columns
    ]:
        wanted = ", ".join(spec[0] for spec in codec.columns)
        got = ", ".join(column.name for column in segment.columns)
        raise IndexCorrupt(segment.folder, "columns", f"those of its codec ({wanted})", got, RESTORE)


def _alike(name: str, dtype: str, width: int | None) -> tuple[str, str, int | None]:
    return name, _CELL_DTYPES[0] if f"{name}.npy" == layout.CELLS and dtype in _CELL_DTYPES else dtype, width

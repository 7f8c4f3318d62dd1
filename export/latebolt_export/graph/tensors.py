"""Constants of a graph that is being worked on: small ones inside it, large ones in a file beside it.

A model of 560 M parameters has 2.2 GB of float32 weights, more than a protobuf message may hold and, in
several copies, more than a machine has. So a working graph only names its large constants (ONNX's external
data, with an absolute path) and every pass maps the ones it looks at.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from latebolt_export.sessions import open_file

LARGE = 1 << 16  # bytes from which a constant lies in the file
MOST_INLINE = (
    1 << 29
)  # bytes of a model in one file: a session reads such a file whole, and maps one beside it
STRETCH = 1 << 24  # bytes that are looked at at a time
ALIGNMENT = 4096  # so that ONNX Runtime can map each tensor


def value(tensor: TensorProto) -> np.ndarray:
    """What a constant holds; a large one is mapped, read-only."""
    place = _place(tensor)
    if place is None:
        return np.asarray(numpy_helper.to_array(tensor))
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    path, offset, _ = place
    return np.memmap(path, dtype, "r", offset, tuple(tensor.dims))


def is_outside(tensor: TensorProto) -> bool:
    """Whether a constant lies in a file."""
    return _place(tensor) is not None


def declare(name: str, array: np.ndarray) -> TensorProto:
    """A constant that is held inside the graph."""
    return numpy_helper.from_array(np.asarray(array, order="C"), name)  # keeps a scalar a scalar


def pieces(tensor: TensorProto) -> Iterator[np.ndarray]:
    """What a constant holds, in stretches of rows: one outside is mapped stretch by stretch.

    Pages of a mapping that were read count as memory of this process until it is closed.
    """
    place = _place(tensor)
    if place is None or not tensor.dims:
        yield value(tensor)
        return
    path, offset, _ = place
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    shape = tuple(tensor.dims)
    width = max(1, int(np.prod(shape[1:], dtype=np.int64))) * dtype.itemsize
    rows = max(1, STRETCH // width)
    for start in range(0, shape[0], rows):
        stretch = (min(rows, shape[0] - start), *shape[1:])
        yield np.memmap(path, dtype, "r", offset + start * width, stretch)


class TensorFile(contextlib.AbstractContextManager["TensorFile"]):
    """A file that large constants of working graphs are written to. Close it before a session reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._file: BinaryIO = self.path.open("wb")

    def add(self, name: str, array: np.ndarray) -> TensorProto:
        """The declaration of a constant, whose bytes are now in the file if it is large."""
        return self.add_pieces(name, array.shape, [array])

    def add_pieces(self, name: str, shape: Sequence[int], parts: Iterable[np.ndarray]) -> TensorProto:
        """The same for one that comes in stretches of rows, at least one."""
        parts = iter(parts)
        first = next(parts)
        if int(np.prod(shape, dtype=np.int64)) * first.itemsize < LARGE:
            return declare(name, np.concatenate([first, *parts]) if first.ndim else first)
        tensor = TensorProto(name=name, dims=shape)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(first.dtype)
        _point(tensor, str(self.path), *_append(self._file, itertools.chain([first], parts)))
        return tensor

    def close(self) -> None:
        self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def load(path: Path, copy: Path) -> onnx.ModelProto:
    """A working graph of somebody's ONNX file.

    Args:
        copy: the file that its large constants are copied to. A session reads data only from the folder of
            its graph, and in the hub's cache that data is a link to somewhere else.
    Raises:
        OSError, DecodeError: a file is missing or damaged.
    """
    model = onnx.load(path, load_external_data=False)
    file = TensorFile(copy)
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            location = str((path.parent / entries["location"]).absolute())
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", _size(tensor)))
            del tensor.external_data[:]
            _point(tensor, location, offset, length)
        elif _size(tensor) < LARGE:
            continue
        tensor.CopyFrom(file.add_pieces(tensor.name, tuple(tensor.dims), pieces(tensor)))
    file.close()
    return model


def twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that may be changed on its own; constants outside are shared."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def save(model: onnx.ModelProto, path: Path) -> list[Path]:
    """Write a graph where others can read it; returns its files, the ONNX file first.

    One that is too large for a single file gets its large constants in `<name>_data` beside it.
    """
    sizes = [_size(tensor) for tensor in model.graph.initializer]
    if sum(sizes) < MOST_INLINE:
        _write(model, path, lambda tensor: tensor)
        return [path]
    data = path.with_name(path.name + "_data")
    with data.open("wb") as file:

        def move(tensor: TensorProto) -> TensorProto | _Outside:
            if _size(tensor) < LARGE:
                return tensor
            moved = TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
            _point(moved, data.name, *_append(file, pieces(tensor)))
            return _Outside(moved)

        _write(model, path, move)
    return [path, data]


def save_together(models: Mapping[Path, onnx.ModelProto]) -> list[list[Path]]:
    """Write graphs that share their large constants by name; returns the files of each, its ONNX file first.

    The constants lie once, in `<name>_data` beside the first; all paths are in one folder.
    """
    data = next(iter(models)).with_name(next(iter(models)).name + "_data")
    moved: dict[str, TensorProto] = {}
    with data.open("wb") as file:

        def move(tensor: TensorProto) -> TensorProto | _Outside:
            if _size(tensor) < LARGE:
                return tensor
            if tensor.name not in moved:
                place = TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
                _point(place, data.name, *_append(file, pieces(tensor)))
                moved[tensor.name] = place
            return _Outside(moved[tensor.name])

        for path, model in models.items():
            _write(model, path, move)
    if moved:
        return [[path, data] for path in models]
    data.unlink()
    return [[path] for path in models]


def open_session(model: onnx.ModelProto, folder: Path) -> Any:
    """A CPU session over a working graph; `folder` takes a small file for a moment."""
    if all(_place(tensor) is None for tensor in model.graph.initializer):
        return open_file(model.SerializeToString())
    path = folder / "probe.onnx"

    def relative(tensor: TensorProto) -> TensorProto | _Outside:
        place = _place(tensor)
        if place is None:
            return tensor
        moved = TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
        _point(moved, os.path.relpath(place[0], folder), *place[1:])
        return _Outside(moved)

    _write(model, path, relative)
    try:
        return open_file(path, rearrange=False)
    finally:
        path.unlink()


class _Outside(NamedTuple):
    """A constant that the written file only names, too."""

    tensor: TensorProto


def _write(
    model: onnx.ModelProto, path: Path, change: Callable[[TensorProto], TensorProto | _Outside]
) -> None:
    """Write a graph as one protobuf message, its constants one by one: never two copies of all in memory.

    Args:
        change: what is written of each constant; what lies outside is put inside, unless it is `_Outside`.
    """
    # The constants apart: together they may be too large to copy.
    graph = _copy(model.graph, "initializer").SerializeToString()
    around = _copy(model, "graph").SerializeToString()
    changed = [change(tensor) for tensor in model.graph.initializer]
    # Fields of a message may come in any order: the graph's own first, then its constants.
    heads = [_head(each) for each in changed]
    sizes = [len(head) + n_bytes for head, n_bytes in heads]
    whole = len(graph) + sum(1 + len(_varint(size)) + size for size in sizes)
    with path.open("wb") as file:
        file.write(around)
        file.write(_GRAPH + _varint(whole) + graph)
        for each, (head, n_bytes), size in zip(changed, heads, sizes, strict=True):
            file.write(_INITIALIZER + _varint(size) + head)
            if n_bytes:
                assert isinstance(each, TensorProto)
                for piece in pieces(each):
                    file.write(np.ascontiguousarray(piece).data)


def _copy(message: Any, but: str) -> Any:
    """A copy of a message, less one of its fields."""
    made = type(message)()
    for field, value in message.ListFields():
        if field.name == but:
            continue
        if isinstance(value, str | bytes | int | float):
            setattr(made, field.name, value)
        else:
            getattr(made, field.name).MergeFrom(value)
    return made


# Tags of ModelProto.graph, GraphProto.initializer and TensorProto.raw_data: number * 8 + 2 (length, bytes).
_GRAPH, _INITIALIZER, _RAW_DATA = b"\x3a", b"\x2a", b"\x4a"


def _head(written: TensorProto | _Outside) -> tuple[bytes, int]:
    """A constant's message up to the bytes it holds, and how many of these follow."""
    if isinstance(written, _Outside):
        return written.tensor.SerializeToString(), 0
    if _place(written) is None:
        return written.SerializeToString(), 0
    inside = TensorProto(name=written.name, dims=written.dims, data_type=written.data_type)
    n_bytes = _size(written)
    return inside.SerializeToString() + _RAW_DATA + _varint(n_bytes), n_bytes


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


def _size(tensor: TensorProto) -> int:
    width = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(np.prod(tensor.dims, dtype=np.int64)) * int(width)


def _place(tensor: TensorProto) -> tuple[str, int, int] | None:
    """File, offset and length of a constant that lies outside; None for one inside."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return None
    entries: Mapping[str, str] = {entry.key: entry.value for entry in tensor.external_data}
    return entries["location"], int(entries["offset"]), int(entries["length"])


def _point(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=text)


def _append(file: BinaryIO, parts: Iterable[np.ndarray]) -> tuple[int, int]:
    """Write an array's pieces one behind the other; returns offset and length."""
    file.write(b"\0" * (-file.tell() % ALIGNMENT))
    offset = file.tell()
    for part in parts:
        file.write(np.ascontiguousarray(part).data)
    file.flush()  # it may be mapped while more is written behind it
    return offset, file.tell() - offset
